//! Either API, in the words of a thread: what is asked of one is asked of the other.

use core::time::Duration;
use memlatch::{
    ClientBuilder, ClientStats, LockError, LossReason, Protocol, ReleaseOutcome, blocking,
};
use std::sync::LazyLock;
use tokio::runtime::Runtime;

/// More than anything here takes on a loaded machine.
pub const LONG: Duration = Duration::from_secs(60);

/// No lease of a test is longer.
const LONGEST: Duration = Duration::from_secs(600);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.expect("a runtime")
});

/// The settings of a client.
#[derive(Clone)]
pub struct Settings {
    pub url: String,
    pub label: &'static str,
    pub auth: Option<(&'static str, &'static str)>,
    /// The restart guard, for leases up to this.
    pub guard: Option<Duration>,
    pub operation_timeout: Duration,
    pub prefix: Option<String>,
    pub protocol: Option<Protocol>,
}

impl Settings {
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            label: "",
            auth: None,
            guard: None,
            operation_timeout: LONG,
            prefix: None,
            protocol: None,
        }
    }

    fn apply<F>(&self, builder: ClientBuilder<F>) -> ClientBuilder<F> {
        let mut builder = builder
            .server(&self.url)
            .label(self.label)
            .operation_timeout(self.operation_timeout)
            .restart_guard(self.guard.is_some());
        builder = match self.guard {
            Some(longest) => builder.default_lease(longest).max_lease(longest),
            None => builder.max_lease(LONGEST),
        };
        if let Some(prefix) = &self.prefix {
            builder = builder.prefix(prefix);
        }
        if let Some(protocol) = self.protocol {
            builder = builder.protocol(protocol);
        }
        match self.auth {
            Some((user, password)) => builder.auth(user, password),
            None => builder,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Async,
    Blocking,
}

pub const APIS: [Api; 2] = [Api::Async, Api::Blocking];

#[derive(Clone)]
pub enum Client {
    Async(memlatch::Client),
    Blocking(blocking::Client),
}

pub enum Guard {
    Async(memlatch::LockGuard),
    Blocking(blocking::LockGuard),
}

/// The lock of a name, with what it is to be asked for.
pub struct Lock<'a> {
    client: &'a Client,
    name: &'a str,
    lease: Duration,
    max_hold: Option<Duration>,
}

macro_rules! lock {
    ($lock:expr, $client:expr) => {{
        let lock = $client.lock($lock.name).lease($lock.lease);
        match $lock.max_hold {
            Some(length) => lock.max_hold(length),
            None => lock,
        }
    }};
}

impl Client {
    pub fn new(api: Api, settings: &Settings) -> Result<Self, LockError> {
        Ok(match api {
            Api::Async => {
                let builder = settings.apply(memlatch::Client::builder());
                Self::Async(RUNTIME.block_on(builder.build())?)
            }
            Api::Blocking => Self::Blocking(settings.apply(blocking::Client::builder()).build()?),
        })
    }

    /// The lock of a name. Its lease is long enough for no renewal to be due.
    pub fn lock<'a>(&'a self, name: &'a str) -> Lock<'a> {
        Lock {
            client: self,
            name,
            lease: LONG * 10,
            max_hold: None,
        }
    }

    pub fn stats(&self) -> ClientStats {
        match self {
            Self::Async(client) => client.stats(),
            Self::Blocking(client) => client.stats(),
        }
    }

    pub fn quiet_failures(&self) -> u64 {
        match self {
            Self::Async(client) => client.quiet_failures(),
            Self::Blocking(client) => client.quiet_failures(),
        }
    }

    pub fn shutdown(&self, limit: Duration) -> bool {
        match self {
            Self::Async(client) => RUNTIME.block_on(client.shutdown(limit)),
            Self::Blocking(client) => client.shutdown(limit),
        }
    }
}

impl Lock<'_> {
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    pub fn max_hold(mut self, limit: Duration) -> Self {
        self.max_hold = Some(limit);
        self
    }

    pub fn acquire(&self) -> Result<Guard, LockError> {
        Ok(match self.client {
            Client::Async(client) => {
                let lock = lock!(self, client);
                Guard::Async(RUNTIME.block_on(lock.acquire())?)
            }
            Client::Blocking(client) => Guard::Blocking(lock!(self, client).acquire()?),
        })
    }

    pub fn try_acquire(&self) -> Result<Option<Guard>, LockError> {
        Ok(match self.client {
            Client::Async(client) => {
                let lock = lock!(self, client);
                RUNTIME.block_on(lock.try_acquire())?.map(Guard::Async)
            }
            Client::Blocking(client) => lock!(self, client).try_acquire()?.map(Guard::Blocking),
        })
    }

    pub fn acquire_timeout(&self, limit: Duration) -> Result<Guard, LockError> {
        Ok(match self.client {
            Client::Async(client) => {
                let lock = lock!(self, client);
                Guard::Async(RUNTIME.block_on(lock.acquire_timeout(limit))?)
            }
            Client::Blocking(client) => {
                Guard::Blocking(lock!(self, client).acquire_timeout(limit)?)
            }
        })
    }
}

impl Guard {
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Async(guard) => guard.key(),
            Self::Blocking(guard) => guard.key(),
        }
    }

    pub fn is_valid(&self) -> bool {
        match self {
            Self::Async(guard) => guard.is_valid(),
            Self::Blocking(guard) => guard.is_valid(),
        }
    }

    pub fn fencing_token(&self) -> Option<u64> {
        match self {
            Self::Async(guard) => guard.fencing_token(),
            Self::Blocking(guard) => guard.fencing_token(),
        }
    }

    pub fn release(self) -> Result<ReleaseOutcome, LockError> {
        match self {
            Self::Async(guard) => RUNTIME.block_on(guard.release()),
            Self::Blocking(guard) => guard.release(),
        }
    }

    /// Takes it apart, and makes a guard of the parts again.
    pub fn hand_to(self, client: &Client) -> Self {
        match (self, client) {
            (Self::Async(guard), Client::Async(client)) => {
                let parts = guard.detach();
                let guard = RUNTIME.block_on(memlatch::LockGuard::attach(client, &parts));
                Self::Async(guard.expect("it is still held"))
            }
            (Self::Blocking(guard), Client::Blocking(client)) => {
                let guard = blocking::LockGuard::attach(client, &guard.detach());
                Self::Blocking(guard.expect("it is still held"))
            }
            _ => panic!("another api"),
        }
    }

    pub fn release_quietly(self) {
        match self {
            Self::Async(guard) => guard.release_quietly(),
            Self::Blocking(guard) => guard.release_quietly(),
        }
    }

    pub fn verify(&self) -> Result<(), LockError> {
        match self {
            Self::Async(guard) => RUNTIME.block_on(guard.verify()),
            Self::Blocking(guard) => guard.verify(),
        }
    }

    pub fn renew(&self) -> Result<Duration, LockError> {
        match self {
            Self::Async(guard) => RUNTIME.block_on(guard.renew()),
            Self::Blocking(guard) => guard.renew(),
        }
    }

    pub fn lost(&self) -> LossReason {
        match self {
            Self::Async(guard) => RUNTIME.block_on(guard.lost()),
            Self::Blocking(guard) => guard.lost(),
        }
    }
}

/// Runs a future of the async API.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

/// Lets the runtime do nothing else for so long.
pub fn occupy_runtime(length: Duration) {
    let occupy = || RUNTIME.spawn(async move { std::thread::sleep(length) });
    for worker in [occupy(), occupy()] {
        RUNTIME.block_on(worker).expect("no panic");
    }
}

/// Waits until it is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONG, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
