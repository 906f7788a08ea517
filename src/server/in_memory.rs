//! A server without a socket, for the fuzz target: what a client sends goes in as chunks, what it
//! is answered comes out.

use super::Server;
use super::builder::ServerBuilder;
use super::connection;
use super::connections::{ConnectionId, Connections};
use super::shared::Shared;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use std::io::{self, Read, Write};

#[derive(Debug)]
pub(crate) struct InMemoryServer(Shared);

impl InMemoryServer {
    pub(crate) fn new(set_up: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let settings = Arc::new(set_up(Server::builder()).into_settings());
        Self(Shared::new(
            settings,
            Arc::new(Connections::new(None, None)),
        ))
    }

    /// One connection from its beginning to its end. The clock goes on by a second before each
    /// chunk for which `ticks` says so.
    #[allow(
        single_use_lifetimes,
        reason = "it cannot be left out in an `impl Iterator`"
    )]
    pub(crate) fn converse<'a>(&self, chunks: impl Iterator<Item = (&'a [u8], bool)>) -> Vec<u8> {
        let mut client = Client {
            shared: &self.0,
            chunks,
            chunk: &[],
            answers: Vec::new(),
        };
        // Output after `watch` is a log, which is not checked.
        let _ = connection::serve(&self.0, ConnectionId::first(), &mut client);
        client.answers
    }

    /// The memory that the items are charged for, and that of all pages.
    pub(crate) fn used(&self) -> (usize, usize) {
        let engine = self.0.engine();
        (
            engine.store.cache.bytes(),
            engine.store.cache.slabs.allocated,
        )
    }
}

struct Client<'s, 'c, I> {
    shared: &'s Shared,
    chunks: I,
    chunk: &'c [u8],
    answers: Vec<u8>,
}

impl<'c, I: Iterator<Item = (&'c [u8], bool)>> Read for Client<'_, 'c, I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            let Some((chunk, ticks)) = self.chunks.next() else {
                return Ok(0);
            };
            if ticks {
                self.shared.engine().clock.advance(Duration::from_secs(1));
            }
            self.chunk = chunk;
        }
        self.chunk.read(buffer)
    }
}

impl<I> Write for Client<'_, '_, I> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answers.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
