//! Nothing of the codec and of the rules allocates, once buffers have grown to what they need:
//! requests and replies in both directions, half a reply, acquiring, renewing, releasing, and the
//! grant itself, which is laid out in place. A refused acquisition names the holder of the lock, in
//! two strings.

#[path = "../benches/support/cases.rs"]
mod cases;

use allocation_counter::measure;
use cases::Runner;

/// Number of runs of each case while allocations are counted.
const TIMES: u64 = 50;

/// The cases that allocate, and how often each time: parsing the holder's record, for its host and
/// its label, and making a lock of a name, for keys and requests that stay the same.
const ALLOCATES: &[(&str, u64)] = &[
    ("lock/keys", 6),
    ("record/parse", 2),
    ("lock/acquire-refused", 2),
    ("lock/classic-acquire-refused", 2),
];

#[derive(Default)]
struct Counter {
    cases: u32,
    wrong: Vec<String>,
}

impl Runner for Counter {
    fn case(&mut self, name: &'static str, mut body: impl FnMut()) {
        self.cases += 1;
        // Buffers grow to the size they keep.
        body();
        let counted = measure(|| {
            for _ in 0..TIMES {
                body();
            }
        });
        let allowed = ALLOCATES.iter().find(|(listed, _)| *listed == name);
        let allowed = allowed.map_or(0, |(_, times)| *times);
        if counted.count_total != allowed * TIMES {
            self.wrong.push(format!(
                "{name}: {} allocations each time, not {allowed}",
                counted.count_total as f64 / TIMES as f64
            ));
        }
    }
}

#[test]
fn lock_path_allocates_only_returned_values() {
    let mut counter = Counter::default();
    cases::all(&mut counter);
    assert!(counter.cases > 50, "the cases are there");
    assert!(counter.wrong.is_empty(), "{:#?}", counter.wrong);
}

#[test]
fn allocation_counter_counts() {
    let counted = measure(|| drop(core::hint::black_box(vec![0u8; 3])));
    assert_eq!((counted.count_total, counted.bytes_total), (1, 3));
}
