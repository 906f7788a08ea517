//! What `scripts/instructions` runs under callgrind: every case, some times over, with a mark
//! before and behind it at which callgrind writes down what it has counted.
#![expect(clippy::print_stdout, reason = "the script reads the names")]

#[path = "../../support/cases.rs"]
mod cases;

use cases::Runner;
use std::env;
use std::hint::black_box;

struct Marked {
    times: u32,
    /// What must stand in a case's name.
    part: String,
}

impl Runner for Marked {
    fn case(&mut self, name: &'static str, mut body: impl FnMut()) {
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

fn main() {
    let mut arguments = env::args().skip(1);
    let times = arguments.next().and_then(|times| times.parse().ok());
    cases::all(&mut Marked {
        times: times.unwrap_or(1),
        part: arguments.next().unwrap_or_default(),
    });
}
