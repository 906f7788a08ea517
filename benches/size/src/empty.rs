//! What the standard library takes by itself.

fn main() {}
