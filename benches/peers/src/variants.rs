//! The ways to acquire and release one lock without contention.

use crate::floor::{self, Shape, Socket, TokioSocket};
use crate::{Failure, LEASE, Result, Servers};
use async_memcached::MetaProtocol;
use memcache::exp;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// A way to acquire and release a lock, connected to its server.
pub trait Variant {
    /// Does so many pairs and appends how long each took, in nanoseconds.
    ///
    /// # Errors
    /// A lock could not be acquired, or not be released.
    fn pairs(&mut self, count: usize, latencies: &mut Vec<u64>) -> Result<()>;
}

/// A kind of variant: what it is called, and what there is to know about it.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    /// Runs in this process, so that its allocations can be counted.
    pub in_process: bool,
    make: fn(&Place<'_>) -> Result<Box<dyn Variant>>,
    needs: Needs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Memcached,
    Redis,
    Pymemcache,
}

/// The place where a variant does its pairs.
#[derive(Debug)]
struct Place<'a> {
    servers: &'a Servers,
    shapes: &'a Shapes,
    /// Of its lock.
    number: usize,
}

/// The bytes that the bare sockets send.
#[derive(Debug)]
pub struct Shapes {
    pub ordinary: Shape,
    pub lean: Shape,
    pub set_and_delete: Shape,
}

impl Shapes {
    /// # Errors
    /// memlatch cannot be listened to.
    pub fn learn(servers: &Servers) -> Result<Self> {
        Ok(Self {
            ordinary: Shape::ordinary(servers)?,
            lean: Shape::lean()?,
            set_and_delete: Shape::set_and_delete()?,
        })
    }
}

/// All of them, in the order of the tables.
pub const KINDS: &[Kind] = &[
    Kind::new("socket", Needs::Memcached, |place| {
        socket(place, &place.shapes.ordinary)
    }),
    Kind::new("socket-lean", Needs::Memcached, |place| {
        socket(place, &place.shapes.lean)
    }),
    Kind::new("socket-ms-md", Needs::Memcached, |place| {
        socket(place, &place.shapes.set_and_delete)
    }),
    Kind::new("tokio-socket", Needs::Memcached, tokio_socket),
    Kind::new("memlatch-blocking", Needs::Memcached, |place| {
        memlatch_blocking(place, |lock| lock)
    }),
    Kind::new("memlatch-async", Needs::Memcached, |place| {
        memlatch_async(place, |lock| lock)
    }),
    #[cfg(feature = "lean")]
    Kind::new("memlatch-blocking-lean", Needs::Memcached, |place| {
        memlatch_blocking(place, memlatch::blocking::Lock::lean)
    }),
    #[cfg(feature = "lean")]
    Kind::new("memlatch-async-lean", Needs::Memcached, |place| {
        memlatch_async(place, memlatch::Lock::lean)
    }),
    Kind::new("async-memcached", Needs::Memcached, async_memcached),
    Kind::new("memcache-exp", Needs::Memcached, memcache_exp),
    Kind::new("memcache-exp-async", Needs::Memcached, memcache_exp_async),
    Kind::new("memcache", Needs::Memcached, memcache_classic),
    Kind::new("rslock", Needs::Redis, rslock),
    Kind {
        in_process: false,
        ..Kind::new("pymemcache", Needs::Pymemcache, pymemcache)
    },
];

impl Kind {
    const fn new(
        name: &'static str,
        needs: Needs,
        make: fn(&Place<'_>) -> Result<Box<dyn Variant>>,
    ) -> Self {
        Self {
            name,
            in_process: true,
            make,
            needs,
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|kind| kind.name == name).copied()
    }

    /// Returns whether everything it needs is available.
    #[must_use]
    pub fn is_possible(&self, servers: &Servers) -> bool {
        match self.needs {
            Needs::Memcached => true,
            Needs::Redis => servers.redis.is_some(),
            Needs::Pymemcache => servers.pymemcache.is_some(),
        }
    }

    /// The peer of the variant.
    #[must_use]
    pub fn server<'a>(&self, servers: &'a Servers) -> &'a str {
        match self.needs {
            Needs::Redis => servers.redis.as_deref().unwrap_or_default(),
            Needs::Memcached | Needs::Pymemcache => &servers.memcached,
        }
    }

    /// The same servers with this address for the one it talks to.
    #[must_use]
    pub fn with_server(&self, servers: &Servers, address: &str) -> Servers {
        let mut servers = servers.clone();
        match self.needs {
            Needs::Redis => servers.redis = Some(address.to_owned()),
            Needs::Memcached | Needs::Pymemcache => address.clone_into(&mut servers.memcached),
        }
        servers
    }

    /// Connects one. Each has a lock of its own.
    ///
    /// # Errors
    /// The server does not answer, or is not there.
    pub fn connect(&self, servers: &Servers, shapes: &Shapes) -> Result<Box<dyn Variant>> {
        let number = KINDS.iter().position(|kind| kind.name == self.name);
        let place = Place {
            servers,
            shapes,
            number: 1 + number.unwrap_or_default(),
        };
        (self.make)(&place)
    }
}

impl Place<'_> {
    fn name(&self) -> String {
        floor::name(self.number)
    }

    /// A key for clients without names, as long as memlatch's.
    fn key(&self) -> String {
        format!("memlatch:lock:{}", self.name())
    }

    fn redis(&self) -> Result<&str> {
        Ok(self.servers.redis.as_deref().ok_or("no Redis is here")?)
    }
}

/// Calls return when a pair is complete. The argument of the closure says whether the pair is the
/// first of many.
struct Blocking<F>(F);

impl<F: FnMut(bool) -> Result<()>> Variant for Blocking<F> {
    fn pairs(&mut self, count: usize, latencies: &mut Vec<u64>) -> Result<()> {
        for index in 0..count {
            let began = Instant::now();
            (self.0)(index == 0)?;
            latencies.push(nanos(began));
        }
        Ok(())
    }
}

/// Pairs are futures, on a runtime of one thread.
struct OnRuntime<F> {
    runtime: Runtime,
    pair: F,
}

impl<F: AsyncFnMut(bool) -> Result<()>> Variant for OnRuntime<F> {
    fn pairs(&mut self, count: usize, latencies: &mut Vec<u64>) -> Result<()> {
        self.runtime.block_on(async {
            for index in 0..count {
                let began = Instant::now();
                (self.pair)(index == 0).await?;
                latencies.push(nanos(began));
            }
            Ok(())
        })
    }
}

fn nanos(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A runtime of one thread.
///
/// # Errors
/// The system has nothing to wait with.
pub fn current_thread() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

fn socket(place: &Place<'_>, shape: &Shape) -> Result<Box<dyn Variant>> {
    let requests = shape.named(place.number)?;
    let mut socket = Socket::connect(&place.servers.memcached, requests)?;
    Ok(Box::new(Blocking(move |first| {
        if first {
            socket.refresh()?;
        }
        socket.pair()
    })))
}

fn tokio_socket(place: &Place<'_>) -> Result<Box<dyn Variant>> {
    let runtime = current_thread()?;
    let requests = place.shapes.ordinary.named(place.number)?;
    let connected = TokioSocket::connect(&place.servers.memcached, requests);
    let mut socket = runtime.block_on(connected)?;
    Ok(Box::new(OnRuntime {
        runtime,
        pair: async move |first| {
            if first {
                socket.refresh()?;
            }
            socket.pair().await
        },
    }))
}

fn memlatch_blocking(
    place: &Place<'_>,
    mode: impl Fn(memlatch::blocking::Lock) -> memlatch::blocking::Lock,
) -> Result<Box<dyn Variant>> {
    let client = memlatch::blocking::Client::connect(place.servers.memcached.as_str())?;
    let lock = mode(client.lock(place.name()).lease(LEASE));
    Ok(Box::new(Blocking(move |_| {
        let guard = lock.acquire()?;
        is_released(&guard.release()?)
    })))
}

fn memlatch_async(
    place: &Place<'_>,
    mode: impl Fn(memlatch::Lock) -> memlatch::Lock,
) -> Result<Box<dyn Variant>> {
    let runtime = current_thread()?;
    let connected = memlatch::Client::connect(place.servers.memcached.as_str());
    let client = runtime.block_on(connected)?;
    let lock = mode(client.lock(place.name()).lease(LEASE));
    Ok(Box::new(OnRuntime {
        runtime,
        pair: async move |_| {
            let guard = lock.acquire().await?;
            is_released(&guard.release().await?)
        },
    }))
}

/// Checks that the lock was held to its end.
///
/// # Errors
/// It was lost before.
pub fn is_released(outcome: &memlatch::ReleaseOutcome) -> Result<()> {
    match outcome {
        memlatch::ReleaseOutcome::Released => Ok(()),
        lost => Err(format!("a lock was lost: {lost:?}").into()),
    }
}

/// 16 bytes that are another each time, as a client of others would make them.
#[derive(Debug)]
pub struct Token {
    text: [u8; 16],
    count: u64,
}

impl Token {
    #[must_use]
    pub fn new() -> Self {
        Self {
            text: [b'0'; 16],
            count: 0,
        }
    }

    #[must_use]
    pub fn another(&mut self) -> &str {
        self.count += 1;
        for (place, digit) in self.text.iter_mut().rev().enumerate() {
            let nibble = (self.count >> (4 * place)) & 15;
            *digit = b"0123456789abcdef"[nibble as usize];
        }
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

impl Default for Token {
    fn default() -> Self {
        Self::new()
    }
}

fn not_released() -> Failure {
    "a lock was not to be given back".into()
}

fn not_acquired() -> Failure {
    "a lock was not to be had".into()
}

/// Acquires by `ms` and releases by `md`, with the CAS unique that `ms` returned.
///
/// # Errors
/// A lock could not be acquired, or not be released.
pub async fn async_memcached_pair(
    client: &mut async_memcached::Client,
    key: &str,
    token: &str,
) -> Result<()> {
    let flags: Option<&[&str]> = Some(&["ME", "T10", "c"]);
    let stored = client.meta_set(key, token, false, None, flags).await?;
    let cas = stored
        .and_then(|value| value.cas)
        .ok_or_else(not_acquired)?;
    let compare = format!("C{cas}");
    // A failed deletion is an error.
    client
        .meta_delete(key, false, None, Some(&[compare.as_str()]))
        .await?;
    Ok(())
}

fn async_memcached(place: &Place<'_>) -> Result<Box<dyn Variant>> {
    let runtime = current_thread()?;
    let server = format!("tcp://{}", place.servers.memcached);
    let mut client = runtime.block_on(async_memcached::Client::new(server))?;
    let (key, mut token) = (place.key(), Token::new());
    Ok(Box::new(OnRuntime {
        runtime,
        pair: async move |_| async_memcached_pair(&mut client, &key, token.another()).await,
    }))
}

fn memcache_exp(place: &Place<'_>) -> Result<Box<dyn Variant>> {
    let client = exp::MetaClient::connect(place.servers.memcached.as_str())?;
    let (key, mut token) = (place.key(), Token::new());
    Ok(Box::new(Blocking(move |_| {
        let set = client.set(&key, token.another()).add();
        let set = set.ttl(exp::Ttl::secs(10)).return_cas().send()?;
        let cas = set.cas.filter(|_| set.applied()).ok_or_else(not_acquired)?;
        let deleted = client.delete(&key).compare_cas(cas).send()?;
        deleted.applied().then_some(()).ok_or_else(not_released)
    })))
}

fn memcache_exp_async(place: &Place<'_>) -> Result<Box<dyn Variant>> {
    let runtime = current_thread()?;
    let connected = exp::AsyncMetaClient::connect(place.servers.memcached.as_str());
    let client = runtime.block_on(connected)?;
    let (key, mut token) = (place.key(), Token::new());
    Ok(Box::new(OnRuntime {
        runtime,
        pair: async move |_| {
            let set = client.set(&key, token.another()).add();
            let set = set.ttl(exp::Ttl::secs(10)).return_cas().send().await?;
            let cas = set.cas.filter(|_| set.applied()).ok_or_else(not_acquired)?;
            let deleted = client.delete(&key).compare_cas(cas).send().await?;
            deleted.applied().then_some(()).ok_or_else(not_released)
        },
    }))
}

/// The classic commands know no deletion that compares: it looks before.
fn memcache_classic(place: &Place<'_>) -> Result<Box<dyn Variant>> {
    let client = memcache::connect(format!(
        "memcache://{}?protocol=ascii",
        place.servers.memcached
    ))?;
    let (key, mut token) = (place.key(), Token::new());
    Ok(Box::new(Blocking(move |_| {
        let token = token.another();
        client.add(&key, token, 10)?;
        let seen: Option<String> = client.get(&key)?;
        let released = seen.as_deref() == Some(token) && client.delete(&key)?;
        released.then_some(()).ok_or_else(not_released)
    })))
}

/// Acquires and releases on Redis.
///
/// # Errors
/// A lock was not to be had. Of the release, rslock says nothing.
pub async fn rslock_pair(manager: &rslock::LockManager, key: &str) -> Result<()> {
    let lock = manager.lock(key.as_bytes(), LEASE).await?;
    manager.unlock(&lock).await;
    Ok(())
}

fn rslock(place: &Place<'_>) -> Result<Box<dyn Variant>> {
    let runtime = current_thread()?;
    let manager = rslock::LockManager::new(vec![format!("redis://{}/", place.redis()?)]);
    let key = place.key();
    Ok(Box::new(OnRuntime {
        runtime,
        pair: async move |_| rslock_pair(&manager, &key).await,
    }))
}

/// Another process, which reads how many pairs it is to do and writes how long each took.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

fn pymemcache(place: &Place<'_>) -> Result<Box<dyn Variant>> {
    let command = place.servers.pymemcache.as_deref().unwrap_or_default();
    let (program, arguments) = command.split_first().ok_or("no pymemcache is here")?;
    let (_, port) = place.servers.memcached.rsplit_once(':').ok_or("no port")?;
    let mut child = Command::new(program)
        .args(arguments)
        .args([port, &place.key()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    Ok(Box::new(Process {
        input: child.stdin.take(),
        output: BufReader::new(output),
        child,
    }))
}

impl Variant for Process {
    fn pairs(&mut self, count: usize, latencies: &mut Vec<u64>) -> Result<()> {
        let input = self.input.as_mut().ok_or("no input")?;
        writeln!(input, "{count}")?;
        input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let before = latencies.len();
        for number in line.split_ascii_whitespace() {
            latencies.push(number.parse()?);
        }
        match latencies.len() - before == count {
            true => Ok(()),
            false => Err("the other process did not do its pairs".into()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.input.take());
        let ends = Instant::now() + Duration::from_secs(2);
        while Instant::now() < ends {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
