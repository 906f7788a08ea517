//! The protocol without sockets and clocks: on fake time, and as a model.

extern crate alloc;

mod lock_rules;
mod model;
