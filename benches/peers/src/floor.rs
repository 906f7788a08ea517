//! The cost of a pair for any program that sends memlatch's bytes: sockets without a client around
//! them.

use crate::tap::Tap;
use crate::variants::is_released;
use crate::{LEASE, Result, Servers};
use memchr::{memchr, memmem};
use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The number of times memlatch is recorded until it sends nothing else meanwhile.
const TRIES: usize = 10;

/// Names of locks, all of the same length.
#[must_use]
pub fn name(number: usize) -> String {
    format!("bench/{number:04}")
}

/// The bytes of one pair, but for what changes from pair to pair.
#[derive(Debug, Clone)]
pub struct Shape {
    acquire: Vec<u8>,
    /// `md <key> C`
    release: Vec<u8>,
    /// The position of the expiry, and its distance from the present.
    expiry: Range<usize>,
    ahead: u64,
    /// Eight digits that make each attempt another.
    digits: Range<usize>,
    /// The number of replies to an acquisition, and the start of the first.
    replies: usize,
    first: &'static [u8],
}

fn unix_now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

fn position(bytes: &[u8], part: &[u8]) -> Result<usize> {
    memmem::find(bytes, part)
        .ok_or_else(|| format!("no {:?} in a request", part.escape_ascii().to_string()).into())
}

impl Shape {
    /// The bytes that memlatch sends in its ordinary mode, learnt by recording it.
    ///
    /// # Errors
    /// The server does not do its part, or memlatch sends bytes that are not understood here.
    pub fn ordinary(servers: &Servers) -> Result<Self> {
        let tap = Tap::before(&servers.memcached)?;
        let client = memlatch::blocking::Client::connect(tap.address.as_str())?;
        let lock = client.lock(name(0)).lease(LEASE);
        let pair = || {
            is_released(&lock.acquire()?.release()?)?;
            Ok::<_, crate::Failure>(tap.take())
        };
        pair()?;
        // Now and then the renewer sends something as well, and makes a connection for it.
        let (mut now, mut bursts) = (unix_now()?, pair()?);
        for _ in 0..TRIES {
            if bursts.len() == 4 {
                break;
            }
            (now, bursts) = (unix_now()?, pair()?);
        }
        let [acquire, _, release, _] = &bursts[..] else {
            return Err(format!("memlatch made other bursts of a pair than 4: {bursts:?}").into());
        };
        let acquire = acquire.bytes.clone();
        // add <key> 0 <expiry> <length>\r\nm1 <nonce> …
        let begin = position(&acquire, b" 0 ")? + 3;
        let expiry = begin..begin + 10;
        let nonce = position(&acquire, b"\r\nm1 ")? + 5;
        let stamped: u64 = std::str::from_utf8(&acquire[expiry.clone()])?.parse()?;
        let end = position(&release.bytes, b" C")? + 2;
        Ok(Self {
            acquire,
            release: release.bytes[..end].to_vec(),
            expiry,
            ahead: stamped.saturating_sub(now).max(1),
            digits: nonce + 24..nonce + 32,
            replies: 4,
            first: b"STORED",
        }
        .with_digits())
    }

    /// The bytes of the lean mode: `mg` that creates the item, `md` that compares.
    ///
    /// # Errors
    /// None so far.
    pub fn lean() -> Result<Self> {
        let key = format!("memlatch:lock:{}", name(0));
        let mut acquire = format!("mg {key} N").into_bytes();
        let expiry = acquire.len()..acquire.len() + 10;
        acquire.extend_from_slice(b"0000000000 E");
        // 64 bits, the highest of them set.
        acquire.extend_from_slice(b"12345678900000000000");
        let digits = acquire.len() - 8..acquire.len();
        acquire.extend_from_slice(b" t c\r\n");
        Ok(Self {
            acquire,
            release: format!("md {key} C").into_bytes(),
            expiry,
            ahead: LEASE.as_secs() + 3,
            digits,
            replies: 1,
            first: b"HD",
        })
    }

    /// The bytes that other clients with meta commands send.
    ///
    /// # Errors
    /// None so far.
    pub fn set_and_delete() -> Result<Self> {
        let key = format!("memlatch:lock:{}", name(0));
        let acquire = format!("ms {key} 16 ME T10 c\r\n0123456700000000\r\n").into_bytes();
        let digits = acquire.len() - 10..acquire.len() - 2;
        Ok(Self {
            acquire,
            release: format!("md {key} C").into_bytes(),
            expiry: 0..0,
            ahead: 0,
            digits,
            replies: 1,
            first: b"HD",
        })
    }

    /// Hexadecimal digits are counted up as decimal ones.
    fn with_digits(mut self) -> Self {
        self.acquire[self.digits.clone()].fill(b'0');
        self
    }

    /// The same for the lock of another name.
    ///
    /// # Errors
    /// The name is not to be found.
    pub fn named(&self, number: usize) -> Result<Requests> {
        let (old, new) = (name(0), name(number));
        let mut shape = self.clone();
        for bytes in [&mut shape.acquire, &mut shape.release] {
            let places: Vec<usize> = memmem::find_iter(bytes, old.as_bytes()).collect();
            if places.is_empty() {
                return Err(format!("no {old} in a request").into());
            }
            for place in places {
                bytes[place..place + new.len()].copy_from_slice(new.as_bytes());
            }
        }
        let prefix = shape.release.len();
        let mut requests = Requests { shape, prefix };
        requests.refresh()?;
        Ok(requests)
    }
}

/// The requests about one lock.
#[derive(Debug, Clone)]
pub struct Requests {
    shape: Shape,
    prefix: usize,
}

/// The contents of replies: their total length, and the position of the CAS unique.
struct Answer {
    length: usize,
    cas: Range<usize>,
}

/// Finds the end of so many replies, if it is there.
fn answer(bytes: &[u8], replies: usize) -> Option<Answer> {
    let mut answer = Answer {
        length: 0,
        cas: 0..0,
    };
    for _ in 0..replies {
        let start = answer.length;
        // Of a value, not all may be there yet.
        let rest = bytes.get(start..)?;
        let line = &rest[..memchr(b'\n', rest)?];
        answer.length += line.len() + 1;
        if answer.cas.is_empty()
            && let Some(at) = memmem::find(line, b" c")
        {
            let end = line[at + 2..].iter().take_while(|b| b.is_ascii_digit());
            answer.cas = start + at + 2..start + at + 2 + end.count();
        }
        if line.starts_with(b"VA ") {
            let digits = line[3..].iter().take_while(|b| b.is_ascii_digit());
            let data = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
            answer.length += data + 2;
        }
    }
    (answer.length <= bytes.len()).then_some(answer)
}

impl Requests {
    /// Moves the expiry along. Once for many pairs: it counts seconds.
    ///
    /// # Errors
    /// The clock is before 1970.
    pub fn refresh(&mut self) -> Result<()> {
        if !self.shape.expiry.is_empty() {
            let expiry = unix_now()? + self.shape.ahead;
            write!(
                &mut self.shape.acquire[self.shape.expiry.clone()],
                "{expiry}"
            )?;
        }
        Ok(())
    }

    fn acquire(&mut self) -> &[u8] {
        for digit in self.shape.acquire[self.shape.digits.clone()]
            .iter_mut()
            .rev()
        {
            if *digit < b'9' {
                *digit += 1;
                break;
            }
            *digit = b'0';
        }
        &self.shape.acquire
    }

    /// Reads the answer to `acquire`, and makes the request for the release of it. Returns how
    /// much was read; nothing if it is not all there.
    fn acquired(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let Some(answer) = answer(bytes, self.shape.replies) else {
            return Ok(None);
        };
        if !bytes.starts_with(self.shape.first) || answer.cas.is_empty() {
            return Err(strange(bytes));
        }
        self.shape.release.truncate(self.prefix);
        self.shape.release.extend_from_slice(&bytes[answer.cas]);
        self.shape.release.extend_from_slice(b"\r\n");
        Ok(Some(answer.length))
    }

    fn release(&self) -> &[u8] {
        &self.shape.release
    }
}

/// Reads the answer to a release.
fn released(bytes: &[u8]) -> Result<Option<usize>> {
    match bytes {
        [b'H', b'D', b'\r', b'\n', ..] => Ok(Some(4)),
        _ if bytes.len() < 4 => Ok(None),
        _ => Err(strange(bytes)),
    }
}

fn strange(bytes: &[u8]) -> crate::Failure {
    let start = &bytes[..bytes.len().min(100)];
    format!("a strange answer: {}", start.escape_ascii()).into()
}

/// One blocking socket: one write and one read for each request.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    requests: Requests,
    input: [u8; 1024],
}

impl Socket {
    /// # Errors
    /// The server does not answer.
    pub fn connect(server: &str, requests: Requests) -> Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            requests,
            input: [0; 1024],
        })
    }

    /// # Errors
    /// The clock is before 1970.
    pub fn refresh(&mut self) -> Result<()> {
        self.requests.refresh()
    }

    /// Acquires and releases.
    ///
    /// # Errors
    /// The server answers otherwise than it should.
    pub fn pair(&mut self) -> Result<()> {
        let mut filled = 0;
        self.stream.write_all(self.requests.acquire())?;
        loop {
            filled += read(&mut self.stream, &mut self.input[filled..])?;
            if self.requests.acquired(&self.input[..filled])?.is_some() {
                break;
            }
        }
        filled = 0;
        self.stream.write_all(self.requests.release())?;
        loop {
            filled += read(&mut self.stream, &mut self.input[filled..])?;
            if released(&self.input[..filled])?.is_some() {
                return Ok(());
            }
        }
    }
}

fn read(stream: &mut TcpStream, room: &mut [u8]) -> Result<usize> {
    match stream.read(room)? {
        0 => Err("the server has closed the connection".into()),
        length => Ok(length),
    }
}

/// The same as [`Socket`], with tokio's.
#[derive(Debug)]
pub struct TokioSocket {
    stream: tokio::net::TcpStream,
    requests: Requests,
    input: [u8; 1024],
}

impl TokioSocket {
    /// # Errors
    /// The server does not answer.
    pub async fn connect(server: &str, requests: Requests) -> Result<Self> {
        let stream = tokio::net::TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            requests,
            input: [0; 1024],
        })
    }

    /// # Errors
    /// The clock is before 1970.
    pub fn refresh(&mut self) -> Result<()> {
        self.requests.refresh()
    }

    /// Acquires and releases.
    ///
    /// # Errors
    /// The server answers otherwise than it should.
    pub async fn pair(&mut self) -> Result<()> {
        let mut filled = 0;
        self.stream.write_all(self.requests.acquire()).await?;
        loop {
            filled += read_async(&mut self.stream, &mut self.input[filled..]).await?;
            if self.requests.acquired(&self.input[..filled])?.is_some() {
                break;
            }
        }
        filled = 0;
        self.stream.write_all(self.requests.release()).await?;
        loop {
            filled += read_async(&mut self.stream, &mut self.input[filled..]).await?;
            if released(&self.input[..filled])?.is_some() {
                return Ok(());
            }
        }
    }
}

async fn read_async(stream: &mut tokio::net::TcpStream, room: &mut [u8]) -> Result<usize> {
    match stream.read(room).await? {
        0 => Err("the server has closed the connection".into()),
        length => Ok(length),
    }
}

/// Many locks on one connection, served by one loop: what is to be sent goes out in one write, and
/// what has come is read in one read.
#[derive(Debug)]
pub struct EventLoop {
    stream: TcpStream,
    epoll: OwnedFd,
    lockers: Vec<Requests>,
    /// Whose replies come next, and whether they are those to a release.
    order: VecDeque<(usize, bool)>,
    output: Vec<u8>,
    input: Box<[u8]>,
}

impl EventLoop {
    /// # Errors
    /// The server does not answer.
    pub fn connect(server: &str, lockers: Vec<Requests>) -> Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(0);
        epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
        Ok(Self {
            stream,
            epoll,
            order: VecDeque::with_capacity(lockers.len()),
            lockers,
            output: Vec::with_capacity(256 * 1024),
            input: vec![0; 256 * 1024].into_boxed_slice(),
        })
    }

    /// Has each locker do so many pairs, one after the other.
    ///
    /// # Errors
    /// The server answers otherwise than it should.
    pub fn run(&mut self, pairs_each: usize) -> Result<Duration> {
        let mut left = vec![pairs_each; self.lockers.len()];
        let mut filled = 0;
        let began = Instant::now();
        for (index, locker) in self.lockers.iter_mut().enumerate() {
            locker.refresh()?;
            self.output.extend_from_slice(locker.acquire());
            self.order.push_back((index, false));
        }
        while !self.order.is_empty() {
            self.flush()?;
            let mut events = [epoll::Event {
                flags: epoll::EventFlags::empty(),
                data: epoll::EventData::new_u64(0),
            }];
            epoll::wait(&self.epoll, &mut events[..], None)?;
            match self.stream.read(&mut self.input[filled..]) {
                Ok(0) => return Err("the server has closed the connection".into()),
                Ok(length) => filled += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            let mut at = 0;
            while let Some(&(index, releasing)) = self.order.front() {
                let bytes = &self.input[at..filled];
                let locker = &mut self.lockers[index];
                let length = match releasing {
                    true => released(bytes)?,
                    false => locker.acquired(bytes)?,
                };
                let Some(length) = length else { break };
                at += length;
                self.order.pop_front();
                if releasing {
                    left[index] -= 1;
                    if left[index] == 0 {
                        continue;
                    }
                    self.output.extend_from_slice(locker.acquire());
                } else {
                    self.output.extend_from_slice(locker.release());
                }
                self.order.push_back((index, !releasing));
            }
            self.input.copy_within(at..filled, 0);
            filled -= at;
        }
        Ok(began.elapsed())
    }

    fn flush(&mut self) -> Result<()> {
        let mut at = 0;
        while at < self.output.len() {
            match self.stream.write(&self.output[at..]) {
                Ok(length) => at += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut ends = [PollFd::new(&self.stream, PollFlags::OUT)];
                    poll(&mut ends, None)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.output.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_replies_are_found() {
        let bytes = b"STORED\r\nVA 3 t13 c4711 f0\r\nm1 \r\nVA 2\r\n42\r\nEN\r\nHD\r\n";
        let found = answer(bytes, 4).expect("four replies");
        assert_eq!(found.length, bytes.len() - 4);
        assert_eq!(&bytes[found.cas], b"4711");
        for length in 0..found.length {
            assert!(answer(&bytes[..length], 4).is_none(), "{length}");
        }
    }

    #[test]
    fn each_attempt_uses_another_key() -> Result<()> {
        let mut requests = Shape::lean()?.named(7)?;
        let first = requests.acquire().to_vec();
        assert!(memmem::find(&first, b"bench/0007").is_some());
        assert!(first.ends_with(b" E12345678900000000001 t c\r\n"));
        for _ in 0..9 {
            requests.acquire();
        }
        assert!(
            requests
                .acquire()
                .ends_with(b" E12345678900000000011 t c\r\n")
        );
        Ok(())
    }
}
