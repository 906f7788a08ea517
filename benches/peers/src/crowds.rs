//! Many tasks at once, each with a lock of its own.

use crate::floor::{self, EventLoop, Shape};
use crate::variants::{
    Shapes, Token, async_memcached_pair, current_thread, is_released, rslock_pair,
};
use crate::{LEASE, Result, Servers};
use std::future::Future;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// A crowd, connected to its server.
pub trait Crowd {
    /// Lets each task do so many pairs, and returns how long all of them took.
    ///
    /// # Errors
    /// A lock could not be acquired, or not be released.
    fn run(&mut self, pairs_each: usize) -> Result<Duration>;
}

/// A kind of crowd.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    pub tasks: usize,
    needs_redis: bool,
    make: fn(&Place<'_>) -> Result<Box<dyn Crowd>>,
}

/// The place where a crowd does its pairs.
#[derive(Debug)]
struct Place<'a> {
    servers: &'a Servers,
    shapes: &'a Shapes,
    tasks: usize,
    /// The number of its first lock. No two crowds have a lock in common, so that none meets what
    /// another may have left behind.
    first: usize,
}

impl Place<'_> {
    fn numbers(&self) -> impl Iterator<Item = usize> + use<> {
        self.first..self.first + self.tasks
    }

    /// Keys for clients without names, as long as memlatch's.
    fn keys(&self) -> impl Iterator<Item = String> + use<> {
        self.numbers()
            .map(|number| format!("memlatch:lock:{}", floor::name(number)))
    }
}

/// All of them, in the order of the tables.
pub const KINDS: &[Kind] = &[
    Kind::new("epoll-64", 64, |place| {
        event_loop(place, &place.shapes.ordinary)
    }),
    Kind::new("epoll-lean-64", 64, |place| {
        event_loop(place, &place.shapes.lean)
    }),
    Kind::new("memlatch-64", 64, |place| {
        memlatch(place, current_thread()?, |lock| lock)
    }),
    #[cfg(feature = "lean")]
    Kind::new("memlatch-lean-64", 64, |place| {
        memlatch(place, current_thread()?, memlatch::Lock::lean)
    }),
    Kind::new("async-memcached-64", 64, async_memcached),
    Kind {
        needs_redis: true,
        ..Kind::new("rslock-64", 64, rslock)
    },
    Kind::new("memlatch-256", 256, |place| {
        memlatch(place, current_thread()?, |lock| lock)
    }),
    Kind::new("memlatch-256-two-workers", 256, |place| {
        memlatch(place, two_workers()?, |lock| lock)
    }),
    #[cfg(feature = "lean")]
    Kind::new("memlatch-lean-256", 256, |place| {
        memlatch(place, current_thread()?, memlatch::Lock::lean)
    }),
    #[cfg(feature = "lean")]
    Kind::new("memlatch-lean-256-two-workers", 256, |place| {
        memlatch(place, two_workers()?, memlatch::Lock::lean)
    }),
];

/// The size of the largest crowd.
const MOST_TASKS: usize = 256;

impl Kind {
    const fn new(
        name: &'static str,
        tasks: usize,
        make: fn(&Place<'_>) -> Result<Box<dyn Crowd>>,
    ) -> Self {
        Self {
            name,
            tasks,
            needs_redis: false,
            make,
        }
    }

    /// Returns whether everything it needs is available.
    #[must_use]
    pub fn is_possible(&self, servers: &Servers) -> bool {
        !self.needs_redis || servers.redis.is_some()
    }

    /// Connects one.
    ///
    /// # Errors
    /// The server does not answer, or is not there.
    pub fn connect(&self, servers: &Servers, shapes: &Shapes) -> Result<Box<dyn Crowd>> {
        let place = KINDS.iter().position(|kind| kind.name == self.name);
        (self.make)(&Place {
            servers,
            shapes,
            tasks: self.tasks,
            first: 1000 + MOST_TASKS * place.unwrap_or_default(),
        })
    }
}

fn two_workers() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).enable_all().build()?)
}

impl Crowd for EventLoop {
    fn run(&mut self, pairs_each: usize) -> Result<Duration> {
        Self::run(self, pairs_each)
    }
}

fn event_loop(place: &Place<'_>, shape: &Shape) -> Result<Box<dyn Crowd>> {
    let lockers: Result<_> = place.numbers().map(|number| shape.named(number)).collect();
    let event_loop = EventLoop::connect(&place.servers.memcached, lockers?)?;
    Ok(Box::new(event_loop))
}

/// Tasks, made from what each of them keeps.
struct Tasks<S, F> {
    runtime: Runtime,
    states: Vec<S>,
    /// Does so many pairs and returns its argument.
    work: F,
}

impl<S, F, W> Crowd for Tasks<S, F>
where
    S: Send + 'static,
    F: Fn(S, usize) -> W,
    W: Future<Output = Result<S>> + Send + 'static,
{
    fn run(&mut self, pairs_each: usize) -> Result<Duration> {
        let states = std::mem::take(&mut self.states);
        self.runtime.block_on(async {
            let began = Instant::now();
            let tasks: Vec<_> = states
                .into_iter()
                .map(|state| tokio::spawn((self.work)(state, pairs_each)))
                .collect();
            for task in tasks {
                self.states.push(task.await??);
            }
            Ok(began.elapsed())
        })
    }
}

/// All tasks share one client, and so one connection.
fn memlatch(
    place: &Place<'_>,
    runtime: Runtime,
    mode: impl Fn(memlatch::Lock) -> memlatch::Lock,
) -> Result<Box<dyn Crowd>> {
    let connected = memlatch::Client::connect(place.servers.memcached.as_str());
    let client = runtime.block_on(connected)?;
    let states = place
        .numbers()
        .map(|number| mode(client.lock(floor::name(number)).lease(LEASE)))
        .collect();
    Ok(Box::new(Tasks {
        runtime,
        states,
        work: async |lock: memlatch::Lock, pairs| {
            for _ in 0..pairs {
                let guard = lock.acquire().await?;
                is_released(&guard.release().await?)?;
            }
            Ok(lock)
        },
    }))
}

/// Each task has a connection, for this client does not share them.
fn async_memcached(place: &Place<'_>) -> Result<Box<dyn Crowd>> {
    let runtime = current_thread()?;
    let server = format!("tcp://{}", place.servers.memcached);
    let mut states = Vec::new();
    for key in place.keys() {
        let client = runtime.block_on(async_memcached::Client::new(&server))?;
        states.push((client, key));
    }
    Ok(Box::new(Tasks {
        runtime,
        states,
        work: async |(mut client, key): (async_memcached::Client, String), pairs| {
            let mut token = Token::new();
            for _ in 0..pairs {
                async_memcached_pair(&mut client, &key, token.another()).await?;
            }
            Ok((client, key))
        },
    }))
}

/// All tasks share one manager, and so one connection.
fn rslock(place: &Place<'_>) -> Result<Box<dyn Crowd>> {
    let redis = place.servers.redis.as_deref().ok_or("no Redis is here")?;
    let manager = rslock::LockManager::new(vec![format!("redis://{redis}/")]);
    let states = place.keys().map(|key| (manager.clone(), key)).collect();
    Ok(Box::new(Tasks {
        runtime: current_thread()?,
        states,
        work: async |(manager, key): (rslock::LockManager, String), pairs| {
            for _ in 0..pairs {
                rslock_pair(&manager, &key).await?;
            }
            Ok((manager, key))
        },
    }))
}
