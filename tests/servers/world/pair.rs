//! Two clients of one prefix, which want the same locks.

use super::either::{Api, Client, Guard, LONG, Settings};
use super::memcached::RealServer;
use super::rng::Rng;
use core::fmt;
use core::time::Duration;
use memlatch::{ErrorKind, Protocol};
use std::panic::resume_unwind;
use std::thread::{self, sleep};
use std::time::Instant;

/// The lock that is at stake.
pub(crate) const PRECIOUS: &str = "precious";

/// A lock that a client takes for the exchange with the server.
const ANOTHER: &str = "another";

/// The rest of a contender between two attempts.
const REST: Duration = Duration::from_millis(25);

/// A holder and a contender.
pub(crate) struct Pair {
    pub(crate) prefix: String,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) api: Api,
    pub(crate) holder: Client,
    pub(crate) contender: Client,
    settings: Settings,
    /// The lease to ask for.
    pub(crate) lease: Duration,
    highest: u64,
    /// The server's clock was set back, and tokens may begin again, once.
    pub(crate) clock_went_back: bool,
}

/// The items as a plain look shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// The value of the sentinel.
    pub(crate) sentinel: Option<String>,
    /// True if there is a record.
    pub(crate) lock: bool,
    /// Seconds since the sentinel was stored or bumped.
    pub(crate) idle: Option<u64>,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.map_or("meta", |_| "classic");
        write!(f, "{protocol}, {:?}", self.api)
    }
}

impl Pair {
    /// One pair for each protocol and API. The longest lease is `lease`.
    pub(crate) fn all(server: &RealServer, lease: Duration, guarded: bool) -> Vec<Self> {
        let mut pairs = Vec::new();
        for protocol in [None, Some(Protocol::Classic)] {
            for api in super::either::APIS {
                let mut settings = Settings::new(server.url());
                settings.prefix = Some(format!("w{}:", pairs.len()));
                settings.protocol = protocol;
                settings.guard = guarded.then_some(lease);
                let client = || Client::new(api, &settings).expect("the server is there");
                pairs.push(Self {
                    prefix: settings.prefix.clone().expect("set"),
                    protocol,
                    api,
                    holder: client(),
                    contender: client(),
                    settings: settings.clone(),
                    lease,
                    highest: 0,
                    clock_went_back: false,
                });
            }
        }
        pairs
    }

    pub(crate) fn sentinel_key(&self) -> String {
        format!("{}sentinel", self.prefix)
    }

    pub(crate) fn lock_key(&self) -> String {
        format!("{}lock:{PRECIOUS}", self.prefix)
    }

    pub(crate) fn fence_key(&self) -> String {
        format!("{}fence:{PRECIOUS}", self.prefix)
    }

    /// Another client that has seen nothing of the server yet.
    pub(crate) fn newcomer(&self) -> Client {
        let began = Instant::now();
        loop {
            match Client::new(self.api, &self.settings) {
                Ok(client) => return client,
                // In the second of a delayed flush.
                Err(error) if error.kind() == ErrorKind::UnsupportedServer => {}
                Err(error) => panic!("{self}: {error}"),
            }
            assert!(began.elapsed() < LONG, "{self}: no client");
            sleep(REST);
        }
    }

    /// Another client, with a longest lease of its own.
    pub(crate) fn newcomer_with(&self, longest: Duration) -> Client {
        let mut settings = self.settings.clone();
        settings.guard = Some(longest);
        Client::new(self.api, &settings).expect("the server is there")
    }

    /// Takes the lock, for as long as that takes.
    pub(crate) fn hold(&mut self) -> Guard {
        let lock = self.holder.lock(PRECIOUS).lease(self.lease);
        let guard = lock.acquire_timeout(LONG);
        let guard = guard.unwrap_or_else(|error| panic!("{self}: {error}"));
        self.rises(&guard);
        guard
    }

    /// The contender asks the server for something else. Whether that was granted without a wait.
    pub(crate) fn exchange(&self) -> bool {
        let guard = self.attempt(&self.contender, ANOTHER);
        let granted = guard.is_some();
        drop(guard.map(Guard::release));
        granted
    }

    /// Asks for a lock once. `None` where it is held, or the server's memory too young.
    pub(crate) fn attempt(&self, client: &Client, name: &str) -> Option<Guard> {
        match client.lock(name).lease(self.lease).try_acquire() {
            Ok(guard) => guard,
            Err(error) if error.kind() == ErrorKind::RestartGuard => None,
            // In the second of a delayed flush the server forgets what it has just stored.
            Err(error) if error.kind() == ErrorKind::UnsupportedServer => None,
            // The server was just restarted.
            Err(error) if error.is_unavailable() || error.is_unknown() => None,
            Err(error) => panic!("{self}: {error}"),
        }
    }

    /// Asks again and again, until the lock is granted or it is certain that it stays held. Returns
    /// whether the holder's guard was valid at an instant at which the new one was.
    pub(crate) fn contend(
        &mut self,
        client: &Client,
        held: &Guard,
        mut stays_held: impl FnMut(&Self) -> bool,
    ) -> Option<(Guard, bool)> {
        let began = Instant::now();
        loop {
            let stays = stays_held(self);
            if let Some(guard) = self.attempt(client, PRECIOUS) {
                let two = guard.is_valid() && held.is_valid() && guard.is_valid();
                self.rises(&guard);
                return Some((guard, two));
            }
            if stays {
                return None;
            }
            assert!(began.elapsed() < LONG, "{self}: nothing is granted");
            sleep(REST);
        }
    }

    /// Tokens rise.
    pub(crate) fn rises(&mut self, guard: &Guard) {
        let token = guard.fencing_token().expect("tokens are on");
        let highest = self.highest;
        if !core::mem::take(&mut self.clock_went_back) {
            assert!(token > highest, "{self}: token {token} behind {highest}");
        }
        self.highest = token;
    }

    pub(crate) fn look(&self, server: &RealServer) -> Look {
        let request = format!(
            "mg {} u v l\r\nmg {} u\r\n",
            self.sentinel_key(),
            self.lock_key()
        );
        let answer = server.command(request.as_bytes());
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let mut lines = answer.lines();
        let header = lines.next().expect("an answer").to_owned();
        let is_there = header.starts_with("VA ");
        let sentinel = is_there.then(|| lines.next().expect("a value").to_owned());
        let idle = header.split(' ').find_map(|word| word.strip_prefix('l'));
        Look {
            sentinel,
            lock: lines.next().is_some_and(|line| line.starts_with("HD")),
            idle: idle.map(|seconds| seconds.parse().expect("a number")),
        }
    }
}

/// Waits a little, in one of these numbers of milliseconds.
pub(crate) fn pause(dice: &mut Rng, range: core::ops::Range<u64>) {
    sleep(dice.millis(range));
}

/// Does the same with all pairs at a time, each with its own of `inputs`.
pub(crate) fn on_each<I: Send, T: Send>(
    pairs: &mut [Pair],
    work: impl Fn(&mut Pair, I) -> T + Sync,
    inputs: impl IntoIterator<Item = I>,
) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .iter_mut()
            .zip(inputs)
            .map(|(pair, input)| scope.spawn(move || work(pair, input)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|cause| resume_unwind(cause)))
            .collect()
    })
}
