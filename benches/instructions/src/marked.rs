//! Runs a case some times over, with a mark before and behind it at which callgrind writes down
//! what it has counted. For our cases and for those of `peer/`.
#![expect(clippy::print_stdout, reason = "the script reads the names")]

use std::env;
use std::hint::black_box;

pub(crate) struct Marked {
    times: u32,
    /// Stands before the names of all cases.
    prefix: String,
    /// The part that a case's name must contain.
    part: String,
    /// The only cases to run, without the prefix. None are given: all.
    only: Vec<String>,
}

impl Marked {
    /// `TIMES PREFIX PART [CASE...]`
    pub(crate) fn from_args() -> Self {
        let mut arguments = env::args().skip(1);
        let times = arguments.next().and_then(|times| times.parse().ok());
        Self {
            times: times.unwrap_or(1),
            prefix: arguments.next().unwrap_or_default(),
            part: arguments.next().unwrap_or_default(),
            only: arguments.collect(),
        }
    }

    pub(crate) fn run(&self, case: &str, mut body: impl FnMut()) {
        if !self.only.is_empty() && !self.only.iter().any(|only| only == case) {
            return;
        }
        let name = format!("{}{case}", self.prefix);
        if !name.contains(&self.part) {
            return;
        }
        println!("{name}");
        // Buffers grow to the size they keep.
        body();
        callgrind_mark();
        for _ in 0..self.times {
            body();
        }
        callgrind_mark();
    }
}

/// The script knows this name.
#[inline(never)]
fn callgrind_mark() {
    black_box(());
}
