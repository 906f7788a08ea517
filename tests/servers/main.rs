//! Servers: how real ones treat locks in a world like the users', and how like them the embedded one is.

#[path = "../support/mod.rs"]
mod support;

mod corpus;
mod embedded_differential;
mod embedded_server;
mod world;
