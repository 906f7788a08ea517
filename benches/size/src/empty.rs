//! An empty program: the size of the standard library alone.

fn main() {}
