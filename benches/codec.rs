//! Nanoseconds of every case: `cargo bench --bench codec`, or with part of a name behind it.

#[path = "support/cases.rs"]
mod cases;

use cases::Runner;
use divan::Bencher;

fn main() {
    divan::main();
}

struct Names(Vec<&'static str>);

impl Runner for Names {
    fn case(&mut self, name: &'static str, _body: impl FnMut()) {
        self.0.push(name);
    }
}

struct One<'a, 'b> {
    name: &'a str,
    bencher: Option<Bencher<'a, 'b>>,
}

impl Runner for One<'_, '_> {
    fn case(&mut self, name: &'static str, body: impl FnMut()) {
        if name == self.name {
            if let Some(bencher) = self.bencher.take() {
                bencher.bench_local(body);
            }
        }
    }
}

fn names() -> Vec<&'static str> {
    let mut names = Names(Vec::new());
    cases::all(&mut names);
    names.0
}

#[divan::bench(args = names())]
fn case(bencher: Bencher<'_, '_>, name: &str) {
    let bencher = Some(bencher);
    cases::all(&mut One { name, bencher });
}
