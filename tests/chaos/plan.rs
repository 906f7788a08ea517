//! The locks that each task wants: the same for the driver and for the processes it starts.

use core::time::Duration;
use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The start of the keys of the locks.
pub(crate) const PREFIX: &str = "chaos:";

/// Number of processes at a time. Each has a slot; one that is killed is followed by
/// another in the same slot.
pub(crate) const SLOTS: u32 = 6;

/// Number of tasks that want locks in each process.
pub(crate) const TASKS: u32 = 24;

/// The slots whose connections go through a proxy.
pub(crate) const PROXIED: [u32; 2] = [1, 4];

/// The slot that speaks the classic protocol whatever the server knows.
pub(crate) const CLASSIC: u32 = 5;

/// Names with one, two or three contenders.
const COLD: u32 = SLOTS * TASKS;

/// Names that all tasks want.
const HOT: u32 = 4;

pub(crate) const KEYS: u32 = COLD + HOT;

/// Each name has one of these, in milliseconds.
const LEASES: [u64; 8] = [3000, 100, 500, 1500, 250, 2000, 150, 1000];

pub(crate) const LONGEST: Duration = Duration::from_millis(LEASES[0]);

pub(crate) fn lease(key: u32) -> Duration {
    // Neither the number of contenders nor the slot goes with the lease.
    Duration::from_millis(LEASES[(key / 3) as usize % LEASES.len()])
}

pub(crate) fn name(round: u32, key: u32) -> String {
    format!("{round}/{key}")
}

/// The names with few contenders that a task wants: its own, and some of tasks in other slots.
pub(crate) fn cold(slot: u32, task: u32) -> Vec<u32> {
    let own = slot * TASKS + task;
    let other = |distance| (own + COLD - distance) % COLD;
    let (one, two) = (other(TASKS + 7), other(2 * TASKS + 14));
    let mut keys = vec![own];
    if one % 3 > 0 {
        keys.push(one);
    }
    if two % 3 > 1 {
        keys.push(two);
    }
    keys
}

/// One of the names that all tasks want.
pub(crate) fn hot(number: u64) -> u32 {
    COLD + (number % u64::from(HOT)) as u32
}

/// The orders of a worker.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) url: String,
    pub(crate) folder: PathBuf,
    pub(crate) process: u32,
    pub(crate) slot: u32,
    pub(crate) round: u32,
    pub(crate) seed: u64,
    pub(crate) guard: bool,
}

const URL: &str = "MEMLATCH_CHAOS_WORKER_URL";
const FOLDER: &str = "MEMLATCH_CHAOS_WORKER_FOLDER";
const NUMBERS: &str = "MEMLATCH_CHAOS_WORKER_NUMBERS";

impl Post {
    pub(crate) fn tell(&self, command: &mut Command) {
        let Self {
            process,
            slot,
            round,
            seed,
            guard,
            ..
        } = self;
        let guard = u64::from(*guard);
        command
            .env(URL, &self.url)
            .env(FOLDER, &self.folder)
            .env(NUMBERS, format!("{process} {slot} {round} {seed} {guard}"));
    }

    pub(crate) fn told() -> Self {
        let text = |name| env::var(name).unwrap_or_else(|_| panic!("{name}: run by the driver"));
        let numbers = text(NUMBERS);
        let mut numbers = numbers
            .split(' ')
            .map(|number| number.parse::<u64>().expect("a number"));
        let mut next = || numbers.next().expect("five numbers");
        let mut small = || u32::try_from(next()).expect("a small number");
        let (process, slot, round) = (small(), small(), small());
        Self {
            url: text(URL),
            folder: text(FOLDER).into(),
            process,
            slot,
            round,
            seed: next(),
            guard: next() == 1,
        }
    }
}

#[test]
fn every_name_has_few_contenders() {
    let mut contenders = vec![0; KEYS as usize];
    for slot in 0..SLOTS {
        for task in 0..TASKS {
            for key in cold(slot, task) {
                contenders[key as usize] += 1;
            }
        }
    }
    for key in 0..COLD {
        assert_eq!(contenders[key as usize], 1 + key % 3);
    }
    for leases in LEASES {
        assert!((0..COLD).any(|key| lease(key) == Duration::from_millis(leases)));
        assert!(Duration::from_millis(leases) <= LONGEST);
    }
}
