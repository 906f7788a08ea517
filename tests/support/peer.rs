//! A peer between a client and the embedded server: it records every request, and replies when the
//! test lets it.
//!
//! One thread serves a connection, reading and replying in turns: it does not read while its
//! replies are not read. If it is set to keep them back, it reads on.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use memlatch::server::Server;
use memlatch::wire::{Limits, RequestDecoder};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{env, fs, process, thread};

/// The time for which a test waits for an expected event.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The time for which a peer waits for a gate, so that none outlives a failed test for long.
const GATE_LIMIT: Duration = Duration::from_secs(60);

/// The behaviour of a peer.
#[derive(Debug, Clone, Copy)]
struct Mood {
    reads: bool,
    answers: bool,
    /// The number of bytes of replies that are written together.
    piece: usize,
    /// Connections are closed as soon as they are made.
    refuses: bool,
    /// The time for which replies to a flight are kept back.
    delay: Duration,
}

#[derive(Debug, Default)]
struct Log {
    /// The requests of each connection, whole ones.
    requests: Vec<Vec<String>>,
    /// The remainder of each: the start of a request.
    rests: Vec<Vec<u8>>,
    streams: Vec<Option<TcpStream>>,
    accepted: usize,
    over: bool,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    mood: Mutex<Mood>,
    changed: Condvar,
    log: Mutex<Log>,
}

/// A peer. It ends when this is dropped.
#[derive(Debug)]
pub struct Peer {
    pub server: Server,
    url: String,
    path: Option<PathBuf>,
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peer {
    /// A peer on a port of loopback.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let accept = move || listener.accept().map(|(stream, _)| stream);
        Self::serve(format!("memcached://{address}"), None, accept)
    }

    /// A peer on a Unix socket: the system takes some hundred kilobytes each way on it, and then
    /// no more. On a port it may be megabytes.
    pub fn start_unix() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("memlatch-peer-{}-{number}.sock", process::id());
        let path = env::temp_dir().join(name);
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket");
        // A stream of either kind is read, written and shut down in the same way.
        let accept = move || {
            let (stream, _) = listener.accept()?;
            Ok(TcpStream::from(OwnedFd::from(stream)))
        };
        Self::serve(format!("unix://{}", path.display()), Some(path), accept)
    }

    fn serve(
        url: String,
        path: Option<PathBuf>,
        next: impl Fn() -> io::Result<TcpStream> + Send + 'static,
    ) -> Self {
        let server = Server::start().expect("a port on loopback");
        let shared = Arc::new(Shared {
            server: server.socket_addr().expect("TCP"),
            mood: Mutex::new(Mood {
                reads: true,
                answers: true,
                piece: usize::MAX,
                refuses: false,
                delay: Duration::ZERO,
            }),
            changed: Condvar::new(),
            log: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(next, &accepting));
        Self {
            server,
            url,
            path,
            shared,
        }
    }

    /// The address on which it listens.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Puts an item into the server, past the client.
    pub fn set(&self, key: &str, value: &[u8]) {
        let line = format!("set {key} 0 0 {}\r\n", value.len());
        let request = [line.as_bytes(), value, b"\r\n"].concat();
        assert_eq!(self.tell(&request), b"STORED\r\n");
    }

    /// Removes an item from the server, past the client, if it is there.
    pub fn delete(&self, key: &str) {
        let answer = self.tell(format!("delete {key}\r\n").as_bytes());
        assert!(answer == b"DELETED\r\n" || answer == b"NOT_FOUND\r\n");
    }

    fn tell(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.shared.server).expect("the server");
        let mut answer = Vec::new();
        ask(&mut stream, request, &mut answer).expect("an answer");
        answer
    }

    fn change(&self, change: impl FnOnce(&mut Mood)) {
        change(&mut lock(&self.shared.mood));
        self.shared.changed.notify_all();
    }

    pub fn read(&self, on: bool) {
        self.change(|mood| mood.reads = on);
    }

    pub fn answer(&self, on: bool) {
        self.change(|mood| mood.answers = on);
    }

    /// Answers are written so many bytes at a time.
    pub fn answer_in_pieces(&self, length: usize) {
        self.change(|mood| mood.piece = length);
    }

    /// The answers to each flight take so long.
    pub fn answer_late(&self, delay: Duration) {
        self.change(|mood| mood.delay = delay);
    }

    pub fn refuse(&self, on: bool) {
        self.change(|mood| mood.refuses = on);
    }

    /// The number of accepted connections.
    pub fn accepted(&self) -> usize {
        lock(&self.shared.log).accepted
    }

    /// Every whole request of every connection, and what there is of one that is not whole.
    pub fn seen(&self) -> Vec<(Vec<String>, Vec<u8>)> {
        let log = lock(&self.shared.log);
        let requests = log.requests.iter().cloned();
        requests.zip(log.rests.iter().cloned()).collect()
    }

    /// Every whole request, one connection behind the other.
    pub fn requests(&self) -> Vec<String> {
        self.seen().into_iter().flat_map(|(all, _)| all).collect()
    }

    /// The number of requests that contain this word.
    pub fn count(&self, word: &str) -> usize {
        let log = lock(&self.shared.log);
        let all = log.requests.iter().flatten();
        all.filter(|request| request.contains(word)).count()
    }

    /// Ends all connections: with the stream's end, or with a reset.
    pub fn hang_up(&self, reset: bool) {
        let mut log = lock(&self.shared.log);
        for slot in &mut log.streams {
            let Some(stream) = slot.take() else { continue };
            if reset {
                let now = Some(Duration::ZERO);
                rustix::net::sockopt::set_socket_linger(&stream, now).expect("an option");
                // The thread that serves it holds it open, and lets go when its end comes.
                stream.shutdown(Shutdown::Read).expect("connected");
            } else {
                // The other end may have gone before, and then there is no connection.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        drop(log);
        self.change(|_| ());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        lock(&self.shared.log).over = true;
        self.hang_up(false);
        // The acceptor looks up.
        match &self.path {
            Some(path) => {
                let _ = UnixStream::connect(path);
                let _ = fs::remove_file(path);
            }
            None => {
                let address = self.url.trim_start_matches("memcached://");
                let _ = TcpStream::connect(address);
            }
        }
    }
}

fn accept(next: impl Fn() -> io::Result<TcpStream>, shared: &Arc<Shared>) {
    while let Ok(stream) = next() {
        let mut log = lock(&shared.log);
        if log.over {
            return;
        }
        log.accepted += 1;
        if lock(&shared.mood).refuses {
            continue;
        }
        let Ok(copy) = stream.try_clone() else {
            continue;
        };
        let number = log.streams.len();
        log.streams.push(Some(copy));
        log.requests.push(Vec::new());
        log.rests.push(Vec::new());
        drop(log);
        let shared = Arc::clone(shared);
        // The client's behaviour shows how it ended.
        thread::spawn(move || drop(serve(stream, number, &shared)));
    }
}

fn serve(mut stream: TcpStream, number: usize, shared: &Shared) -> io::Result<()> {
    // A Unix socket has no such delay.
    let _ = stream.set_nodelay(true);
    let mut server = TcpStream::connect(shared.server)?;
    server.set_nodelay(true)?;
    let (mut arrived, mut answers) = (Vec::new(), Vec::new());
    let mut chunk = [0; 2048];
    loop {
        let mood = shared.wait(number, |mood| mood.reads)?;
        if mood.answers {
            if !answers.is_empty() {
                thread::sleep(mood.delay);
            }
            for piece in answers.chunks(mood.piece) {
                stream.write_all(piece)?;
                if piece.len() < answers.len() {
                    thread::yield_now();
                }
            }
            answers.clear();
        }
        // With answers held back, it looks up now and then.
        let look_up = (!answers.is_empty()).then_some(Duration::from_millis(5));
        stream.set_read_timeout(look_up)?;
        let length = match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        arrived.extend_from_slice(&chunk[..length]);
        // It may have been set not to read when it was about to.
        shared.wait(number, |mood| mood.reads)?;
        loop {
            let mut decoder = RequestDecoder::new(Limits::SERVER);
            let decoded = decoder.decode(&arrived);
            let Some((_, length)) = decoded.map_err(|_| io::ErrorKind::InvalidData)? else {
                break;
            };
            let request: Vec<u8> = arrived.drain(..length).collect();
            let text = String::from_utf8_lossy(&request).into_owned();
            lock(&shared.log).requests[number].push(text);
            ask(&mut server, &request, &mut answers)?;
        }
        lock(&shared.log).rests[number].clone_from(&arrived);
    }
}

/// One request and its reply, whose end is marked by the reply to another one.
fn ask(server: &mut TcpStream, request: &[u8], answers: &mut Vec<u8>) -> io::Result<()> {
    const END: &[u8] = b"MN\r\n";
    server.write_all(&[request, b"mn\r\n"].concat())?;
    let begin = answers.len();
    let mut chunk = [0; 4096];
    let ends = if request == b"mn\r\n" { 2 } else { 1 };
    while !answers[begin..].ends_with(&END.repeat(ends)) {
        match server.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => answers.extend_from_slice(&chunk[..length]),
        }
    }
    answers.truncate(answers.len() - END.len());
    Ok(())
}

impl Shared {
    /// Waits until the mood is as wanted, or the connection was hung up.
    fn wait(&self, number: usize, wanted: impl Fn(&Mood) -> bool) -> io::Result<Mood> {
        let began = Instant::now();
        let mut mood = lock(&self.mood);
        loop {
            if lock(&self.log).streams[number].is_none() || began.elapsed() > GATE_LIMIT {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if wanted(&mood) {
                return Ok(*mood);
            }
            let waited = self.changed.wait_timeout(mood, Duration::from_millis(100));
            mood = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Waits until something is true that must become so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
