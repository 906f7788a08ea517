//! One connection, and scripted peers.

use super::*;
use crate::net::connect::tests::HalfDead;
use crate::wire::{Flags, Key, Reply, Request};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::vec::Vec;

const LIMIT: Duration = Duration::from_secs(10);

/// The reports about flights that were sent ahead, and whether the flights succeeded.
type FlightReports = Arc<Mutex<Vec<(u8, bool)>>>;

#[derive(Debug)]
struct Numbered {
    number: u8,
    done: bool,
    reports: FlightReports,
}

impl ReplyObserver for Numbered {
    fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        let mut reports = self.reports.lock().expect("no thread panicked");
        reports.push((self.number, self.done));
    }
}

/// A connection and its peer.
struct Scene {
    connection: Connection<Numbered>,
    peer: TcpStream,
    reports: FlightReports,
}

impl Scene {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let stream = TcpStream::connect(address).expect("it listens");
        let (peer, _) = listener.accept().expect("somebody connects");
        peer.set_nodelay(true).expect("a socket");
        Self {
            connection: Connection::over(Stream::Tcp(stream)),
            peer,
            reports: FlightReports::default(),
        }
    }

    fn send_ahead(&mut self, number: u8) {
        let key = Key::new(b"k").expect("plain");
        self.connection.next_flight().push(&Request::MetaDelete {
            key,
            flags: Flags::list(&[]),
        });
        let reports = Arc::clone(&self.reports);
        let sent = self.connection.send_ahead(LIMIT, || Numbered {
            number,
            done: false,
            reports,
        });
        assert!(sent && self.connection.has_ahead());
        assert!(!self.connection.is_dirty());
    }

    fn says(&mut self, answer: &[u8]) {
        self.peer.write_all(answer).expect("room");
    }

    /// Asks for the version, which is 7.
    fn ask(&mut self) -> Result<(), NetError> {
        self.connection.next_flight().push(&Request::Version);
        let mut replies = self.connection.exchange(LIMIT, || Duration::ZERO)?;
        let reply = replies.next_reply().expect("a reply");
        assert!(matches!(reply, Reply::Version(b"7")), "{reply:?}");
        Ok(())
    }

    fn settle(&mut self, limit: Duration) -> bool {
        let began = Instant::now();
        self.connection.settle(limit, || began.elapsed())
    }

    #[track_caller]
    fn was_told(&self, expected: &[(u8, bool)]) {
        let reports = self.reports.lock().expect("no thread panicked");
        assert_eq!(*reports, expected);
    }

    /// Waits until what was sent has arrived.
    #[cfg(unix)]
    fn arrived(&mut self) {
        let began = Instant::now();
        while self.connection.stream.is_quiet() {
            assert!(began.elapsed() < LIMIT);
            thread::yield_now();
        }
    }
}

#[test]
fn request_ahead_is_answered_with_next() {
    let mut scene = Scene::new();
    scene.send_ahead(1);
    // Before any read: the request did not wait for the next one.
    let mut bytes = [0; 64];
    scene.peer.read_exact(&mut bytes[..6]).expect("bytes");
    assert_eq!(&bytes[..6], b"md k\r\n");
    scene.says(b"HD\r\nVERSION 7\r\n");
    scene.ask().expect("answered");
    scene.was_told(&[(1, true)]);
    assert!(!scene.connection.has_ahead() && !scene.connection.is_dirty());
    scene.says(b"VERSION 7\r\n");
    scene.ask().expect("nothing is left over");
    // The reply of the classic protocol.
    scene.send_ahead(2);
    scene.says(b"STORED\r\nVERSION 7\r\n");
    scene.ask().expect("answered");
    scene.was_told(&[(1, true), (2, true)]);
}

#[test]
fn split_replies_are_read() {
    let mut scene = Scene::new();
    scene.send_ahead(1);
    let mut peer = scene.peer.try_clone().expect("a socket");
    let speak = thread::spawn(move || {
        for byte in b"HD\r\nVERSION 7\r\n" {
            peer.write_all(&[*byte]).expect("room");
            thread::sleep(Duration::from_millis(1));
        }
    });
    scene.ask().expect("answered");
    scene.was_told(&[(1, true)]);
    speak.join().expect("no panic");
}

#[test]
fn undone_request_ahead_keeps_connection() {
    let mut scene = Scene::new();
    let answers: [&[u8]; 6] = [
        b"NF\r\n",
        b"EX\r\n",
        b"NOT_FOUND\r\n",
        b"EXISTS\r\n",
        b"SERVER_ERROR out of memory\r\n",
        b"VA 1\r\nx\r\n",
    ];
    let mut expected = Vec::new();
    for (number, answer) in (0..).zip(answers) {
        scene.send_ahead(number);
        scene.says(&[answer, b"VERSION 7\r\n"].concat());
        scene.ask().expect("answered");
        expected.push((number, false));
        scene.was_told(&expected);
    }
}

#[test]
fn closed_stream_leaves_request_undone() {
    // Nothing else was requested.
    let mut scene = Scene::new();
    scene.send_ahead(1);
    scene.was_told(&[]);
    let Scene {
        connection,
        reports,
        ..
    } = scene;
    drop(connection);
    assert_eq!(*reports.lock().expect("no thread panicked"), [(1, false)]);
    // Before the reply, within it, and after it.
    let said: [(&[u8], bool); 3] = [(b"", false), (b"HD", false), (b"HD\r\n", true)];
    for (said, done) in said {
        let mut scene = Scene::new();
        scene.send_ahead(1);
        scene.says(said);
        scene
            .peer
            .shutdown(std::net::Shutdown::Write)
            .expect("a socket");
        let error = scene.ask().expect_err("no answer");
        assert!(error.sent && scene.connection.is_dirty(), "{error}");
        // Of what was asked, nothing has come.
        let closed = matches!(error.cause, NetCause::Closed);
        assert_eq!(closed, said != b"HD", "{error}");
        drop(scene.connection);
        let reports = scene.reports.lock().expect("no thread panicked");
        assert_eq!(*reports, [(1, done)]);
    }
}

#[test]
fn final_error_answers_both_requests() {
    let mut scene = Scene::new();
    scene.send_ahead(1);
    scene.says(b"ERROR Too many open connections\r\n");
    let error = scene.ask().expect_err("refused");
    assert!(
        matches!(error.cause, NetCause::TooManyConnections),
        "{error}"
    );
}

#[test]
fn unsendable_request_ahead_has_no_subject() {
    let mut scene = Scene::new();
    let Stream::Tcp(stream) = &scene.connection.stream else {
        unreachable!("it is one");
    };
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("a socket");
    scene.connection.next_flight().push(&Request::Version);
    let sent = scene.connection.send_ahead(LIMIT, || unreachable!());
    assert!(!sent && !scene.connection.has_ahead() && scene.connection.is_dirty());
}

#[cfg(unix)]
#[test]
fn idle_connection_is_settled_first() {
    let mut scene = Scene::new();
    assert!(scene.settle(LIMIT), "there is nothing");
    scene.send_ahead(1);
    scene.says(b"HD\r\n");
    scene.arrived();
    assert!(!scene.connection.is_reusable(), "it looks like a surprise");
    assert!(scene.settle(LIMIT) && scene.connection.is_reusable());
    scene.was_told(&[(1, true)]);
    scene.says(b"VERSION 7\r\n");
    scene.ask().expect("nothing is left over");
    // Unrequested bytes are just as unexpected after it.
    scene.send_ahead(2);
    scene.says(b"NF\r\nmore");
    scene.arrived();
    let settled = scene.settle(LIMIT);
    assert!(!settled || !scene.connection.is_reusable());
    scene.was_told(&[(1, true), (2, false)]);
}

#[test]
fn connection_with_pending_reply_is_discarded() {
    let mut scene = Scene::new();
    scene.connection.next_flight().push(&Request::Version);
    let began = Instant::now();
    let exchanged = scene
        .connection
        .exchange(Duration::from_millis(30), || began.elapsed());
    let error = exchanged.expect_err("nobody answers");
    assert!(error.sent, "{error}");
    // Nothing has arrived, so a check of the socket would show nothing unexpected.
    assert!(scene.connection.is_dirty() && !scene.connection.is_reusable());
}

#[test]
fn silent_server_is_awaited_until_limit() {
    for said in [&b""[..], b"H"] {
        let mut scene = Scene::new();
        scene.send_ahead(1);
        scene.says(said);
        let began = Instant::now();
        assert!(!scene.settle(Duration::from_millis(30)));
        assert!(began.elapsed() < LIMIT && scene.connection.is_dirty());
        assert!(scene.connection.has_ahead());
    }
    let mut scene = Scene::new();
    scene.send_ahead(1);
    assert!(!scene.settle(Duration::ZERO), "no time at all");
}

#[test]
fn silent_address_leaves_time_for_next() {
    let half = HalfDead::new();
    let limit = Duration::from_secs(4);
    let deadline = Instant::now() + limit;
    let stream = reach([half.dead, half.alive], limit, deadline);
    let peer = stream.expect("the second one is alive").peer_addr();
    assert_eq!(peer.expect("an address"), half.alive);
    let limit = Duration::from_millis(200);
    let error = reach([half.dead], limit, Instant::now() + limit);
    let error = error.expect_err("it is dead");
    assert!(matches!(error.cause, NetCause::Timeout(_)), "{error}");
}
