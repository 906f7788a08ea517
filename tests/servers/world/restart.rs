//! Another run of the server, in a busy cache: also one that looks like the run before, and one
//! that keeps its items (`-e`) while the wall clock was set.

use super::either::{Guard, LONG};
use super::memcached::{Binary, RealServer, Surroundings, can_have_process_id_1, faketime};
use super::pair::{PRECIOUS, Pair, on_each};
use super::traffic::Traffic;
use super::{on_each_version, seed};
use core::iter::repeat;
use core::time::Duration;
use memlatch::{ErrorKind, ReleaseOutcome};
use std::path::PathBuf;
use std::{env, fs, process};

/// The longest lease, and that of the lock that is at stake.
const LEASE: Duration = Duration::from_secs(3);

/// One way to restart a server.
#[derive(Debug, Clone, Copy, Default)]
struct Restart {
    name: &'static str,
    /// The server is process 1 before and after.
    process_id_1: bool,
    before: Option<&'static str>,
    after: Option<&'static str>,
    /// The server keeps its items.
    warm: bool,
    /// The server's clock goes back: fencing tokens do not rise over that.
    back: bool,
}

const RESTARTS: [Restart; 6] = [
    Restart {
        name: "as it is",
        process_id_1: false,
        before: None,
        after: None,
        warm: false,
        back: false,
    },
    Restart {
        name: "as process 1 again",
        process_id_1: true,
        before: None,
        after: None,
        warm: false,
        back: false,
    },
    // Process id and start second are those of the run before.
    Restart {
        name: "as process 1 again, in the same second",
        process_id_1: true,
        before: Some("@2026-01-01 00:00:00"),
        after: Some("@2026-01-01 00:00:00"),
        warm: false,
        back: true,
    },
    Restart {
        name: "warm",
        process_id_1: false,
        before: None,
        after: None,
        warm: true,
        back: false,
    },
    Restart {
        name: "warm, with the wall clock set forward",
        process_id_1: false,
        before: Some("+0"),
        after: Some("+40"),
        warm: true,
        back: false,
    },
    Restart {
        name: "warm, with the wall clock set back",
        process_id_1: false,
        before: Some("+0"),
        after: Some("-40"),
        warm: true,
        back: true,
    },
];

impl Restart {
    fn surroundings(self, wall_clock: Option<&str>) -> Surroundings {
        Surroundings {
            process_id_1: self.process_id_1,
            wall_clock: wall_clock.map(str::to_owned),
        }
    }

    fn is_possible(self) -> bool {
        (!self.process_id_1 || can_have_process_id_1())
            && (self.before.is_none() || faketime().is_some())
    }

    /// Restarts a server of this version while a lock is held.
    fn check(self, binary: &Binary) {
        if !self.is_possible() {
            return;
        }
        let folder = Folder::new(&binary.version);
        let memory = folder.0.join("memory").display().to_string();
        // Less does not do with `-e`.
        let args = ["-e", &memory, "-m", "64"];
        let args = if self.warm { &args[..] } else { &[] };
        let mut server = binary.start_in(&self.surroundings(self.before), args);
        let mut pairs = Pair::all(&server, LEASE, true);
        let traffic = Traffic::start(server.address(), seed(), 1, Vec::new());
        let guards = on_each(&mut pairs, |pair, ()| pair.hold(), repeat(()));
        // The contender knows this run.
        on_each(&mut pairs, |pair, ()| pair.exchange(), repeat(()));
        if self.warm {
            server.restart_warm(self.surroundings(self.after));
        } else {
            server.restart();
        }
        for pair in &mut pairs {
            pair.clock_went_back = self.back;
        }
        on_each(
            &mut pairs,
            |pair, held| self.contend(pair, &server, held),
            guards,
        );
        assert!(traffic.batches() > 0, "{traffic}");
    }

    /// The contender and a newcomer try to get what is held.
    fn contend(self, pair: &mut Pair, server: &RealServer, held: Guard) {
        let what = format!(
            "memcached {}, {pair}, restarted {}",
            server.version(),
            self.name
        );
        for client in [pair.contender.clone(), pair.newcomer()] {
            let stays_held = |_: &Pair| held.is_valid();
            // Where the lock was kept, it may stay held.
            let mut asked = 0;
            let granted = pair.contend(&client, &held, |pair| {
                asked += 1;
                self.warm && asked > 100 && stays_held(pair)
            });
            if let Some((guard, two)) = granted {
                assert!(!two, "{what}: two valid guards");
                drop(guard.release());
            }
        }
        // What it does now is no harm to others.
        let other = pair.contender.lock(PRECIOUS).lease(LEASE);
        drop(held.release());
        let other = other.acquire_timeout(LONG).expect("it is free in the end");
        let outcome = other.release().expect("the server is there");
        assert_eq!(outcome, ReleaseOutcome::Released, "{what}");
    }
}

/// The folder of a server's memory. It is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(version: &str) -> Self {
        // Where it is not written to a disk.
        let shared = PathBuf::from("/dev/shm");
        let parent = if shared.is_dir() {
            shared
        } else {
            env::temp_dir()
        };
        let folder = parent.join(format!("memlatch-world-{}-{version}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn busy_cache_restart_leaves_one_guard() {
    on_each_version(|binary| {
        for restart in RESTARTS {
            restart.check(binary);
        }
    });
}

/// memcached's own proxy has a process id and a start of its own, whatever runs behind it.
#[test]
fn proxy_in_servers_place_is_refused() {
    on_each_version(|binary| {
        if binary.version == "1.6.18" {
            // It has no proxy.
            return;
        }
        let behind = binary.start(&[]);
        let mut server = binary.start(&[]);
        let folder = Folder::new(&format!("{}-proxy", binary.version));
        let file = folder.0.join("routes.lua");
        let routes = format!(
            "pools{{ all = {{ backends = {{ \"{}\" }} }} }}\n\
             routes{{ default = route_direct{{ child = \"all\" }} }}\n",
            behind.address()
        );
        fs::write(&file, routes).expect("a file");
        // The same locks are held on both servers.
        let mut pairs = Pair::all(&server, LEASE, false);
        let mut others = Pair::all(&behind, LEASE, false);
        let guards = on_each(&mut pairs, |pair, ()| pair.hold(), repeat(()));
        let kept = on_each(&mut others, |pair, ()| pair.hold(), repeat(()));
        let options = format!("proxy_config=routelib,proxy_arg={}", file.display());
        server.restart_with(&["-o", &options]);
        let check = |pair: &mut Pair, held: Guard| {
            let asked = pair.contender.lock(PRECIOUS).lease(LEASE).try_acquire();
            let error = asked.err().expect("it is refused");
            assert_eq!(
                error.kind(),
                ErrorKind::UnsupportedServer,
                "{pair}: {error}"
            );
            let released = held.release();
            assert_ne!(released.ok(), Some(ReleaseOutcome::Released), "{pair}");
        };
        on_each(&mut pairs, check, guards);
        for (pair, guard) in others.iter().zip(kept) {
            guard
                .verify()
                .unwrap_or_else(|error| panic!("{pair}: {error}"));
            let outcome = guard.release().expect("the server is there");
            assert_eq!(outcome, ReleaseOutcome::Released, "{pair}");
        }
    });
}
