//! The program that `scripts/instructions` runs under callgrind: every case.

#[path = "../../support/cases.rs"]
mod cases;
mod marked;

use cases::Runner;
use marked::Marked;

impl Runner for Marked {
    fn case(&mut self, name: &'static str, body: impl FnMut()) {
        self.run(name, body);
    }
}

fn main() {
    cases::all(&mut Marked::from_args());
}
