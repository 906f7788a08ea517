//! Compares and counts.

use async_memcached::{Error, ErrorKind, Status};
use std::fmt::Debug;

#[derive(Default)]
pub struct Checks {
    pub done: u32,
    pub wrong: u32,
}

impl Checks {
    pub fn is<T: Debug + PartialEq<U>, U: Debug>(&mut self, what: &str, got: T, expected: U) {
        self.done += 1;
        if got != expected {
            self.wrong += 1;
            let (got, expected) = (shown(&got), shown(&expected));
            println!("{what}: {got} instead of {expected}");
        }
    }
}

/// No more of it than says what it is.
fn shown(result: &impl Debug) -> String {
    format!("{result:?}").chars().take(200).collect()
}

/// The client reports what is no success as an error, misses included.
pub fn status<T>(status: Status) -> Result<T, Error> {
    Err(Error::Protocol(status))
}

pub fn client_error<T>(text: &str) -> Result<T, Error> {
    status(Status::Error(ErrorKind::Client(text.to_owned())))
}

pub fn server_error<T>(text: &str) -> Result<T, Error> {
    status(Status::Error(ErrorKind::Server(text.to_owned())))
}
