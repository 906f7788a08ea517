//! One connection: bytes in, requests, answers out.

use super::auth::{self, AuthStep};
use super::connections::ConnectionId;
use super::dispatch::{self, ConnectionAction};
use super::engine::Engine;
use super::replies::declined;
use super::shared::Shared;
use super::watch_log::LogBuffer;
use crate::wire::{AdminErrorReason, Limits, Reply, RequestDecoder};
use alloc::sync::Arc;
use bytes::{Buf, BytesMut};
use std::io::{Read, Write};
use std::sync::MutexGuard;

/// Bytes that are read at once, and bytes of replies that are gathered before they are written.
const CHUNK: usize = 16 * 1024;

/// Serves requests until one side ends the connection, or until the connection becomes a log: then
/// returns that log.
pub(crate) fn serve(
    shared: &Shared,
    ticket: ConnectionId,
    mut stream: impl Read + Write,
) -> Option<Arc<LogBuffer>> {
    let mut connection = Connection {
        shared,
        ticket,
        decoder: RequestDecoder::new(Limits {
            value: shared.settings.max_item_size,
            ..Limits::SERVER
        }),
        input: BytesMut::new(),
        output: BytesMut::new(),
        skip: 0,
        admitted: shared.settings.auth.is_empty(),
        log: None,
    };
    let mut chunk = [0; CHUNK];
    loop {
        let length = match stream.read(&mut chunk) {
            Ok(0) => return None,
            Ok(length) => length,
            Err(error) => match error.kind() {
                std::io::ErrorKind::Interrupted => continue,
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                    // The limit on idle connections is the only one there is.
                    if let Some(mut engine) = connection.engine() {
                        engine.store.counters.idle_kicks += 1;
                    }
                    return None;
                }
                _ => return None,
            },
        };
        connection.input.extend_from_slice(&chunk[..length]);
        let stalled = shared.gate.pass();
        let flow = loop {
            match connection.step(stalled) {
                Some(ConnectionAction::Continue) if connection.output.len() < CHUNK => {}
                Some(ConnectionAction::Continue) => {
                    if connection.write(&mut stream).is_err() {
                        return None;
                    }
                }
                Some(flow) => break flow,
                None => break ConnectionAction::Continue,
            }
        };
        // One write for all that one read has brought.
        if connection.write(&mut stream).is_err() {
            return None;
        }
        match flow {
            ConnectionAction::Continue => {}
            ConnectionAction::Close => return None,
            ConnectionAction::Watch(_) => return connection.log,
            ConnectionAction::Shutdown => {
                shared.stop();
                return None;
            }
        }
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    ticket: ConnectionId,
    decoder: RequestDecoder,
    input: BytesMut,
    output: BytesMut,
    /// Number of bytes still to come that belong to a value to be discarded.
    skip: usize,
    /// `true` if this side may ask for anything.
    admitted: bool,
    /// The log of this client once it watches. Then it gets no more replies.
    log: Option<Arc<LogBuffer>>,
}

impl<'a> Connection<'a> {
    /// The items, unless they are those of a later incarnation.
    fn engine(&self) -> Option<MutexGuard<'a, Engine>> {
        self.shared.engine_of(self.ticket.generation)
    }

    /// Does what the next request in the input asks for; `None` when there is none.
    fn step(&mut self, stalled: Option<u32>) -> Option<ConnectionAction> {
        let skipped = self.skip.min(self.input.len());
        self.input.advance(skipped);
        self.skip -= skipped;
        if self.input.is_empty() {
            return None;
        }
        if !self.admitted {
            return self.authenticate();
        }
        let (used, flow) = match self.decoder.decode(&self.input) {
            Ok(None) => return None,
            Ok(Some((request, length))) => {
                // Not for the whole of a pipeline: others get their turn in between.
                let Some(mut engine) = self.engine() else {
                    return Some(ConnectionAction::Close);
                };
                let now = stalled.unwrap_or_else(|| engine.begin());
                engine.store.cache.journal.connection = self.ticket.number;
                let mut flow = dispatch::execute(&mut engine, &request, now, &mut self.output);
                if let ConnectionAction::Watch(streams) = flow {
                    self.log = engine.store.cache.journal.watch(streams);
                    if self.log.is_some() {
                        Reply::Ok.encode(&mut self.output);
                    } else {
                        let reason = AdminErrorReason::WatcherTooMany;
                        let text = "log watcher limit reached";
                        declined(reason, text).encode(&mut self.output);
                        flow = ConnectionAction::Continue;
                    }
                }
                engine.store.counters.bytes_read += length as u64;
                (length, flow)
            }
            Err(refusal) => {
                let Some(mut engine) = self.engine() else {
                    return Some(ConnectionAction::Close);
                };
                dispatch::refuse(&mut engine, &refusal, &mut self.output);
                let flow = if refusal.close {
                    ConnectionAction::Close
                } else {
                    ConnectionAction::Continue
                };
                (refusal.skip, flow)
            }
        };
        let here = used.min(self.input.len());
        self.input.advance(here);
        self.skip = used - here;
        Some(flow)
    }

    fn authenticate(&mut self) -> Option<ConnectionAction> {
        let step = auth::judge(&self.input, &self.shared.settings.auth);
        if matches!(step, AuthStep::Answer(..) | AuthStep::Admit(_)) {
            let Some(mut engine) = self.engine() else {
                return Some(ConnectionAction::Close);
            };
            let counters = &mut engine.store.counters;
            counters.auth_cmds += 1;
            counters.auth_errors += u64::from(matches!(step, AuthStep::Answer(..)));
        }
        if step != AuthStep::Wait {
            // Until it is let in, only the last answer to a batch is given.
            self.output.clear();
        }
        match step {
            AuthStep::Wait => None,
            AuthStep::Close => Some(ConnectionAction::Close),
            AuthStep::Answer(used, reply) => {
                reply.encode(&mut self.output);
                self.input.advance(used);
                Some(ConnectionAction::Continue)
            }
            AuthStep::Admit(used) => {
                self.admitted = true;
                Reply::Stored.encode(&mut self.output);
                self.input.advance(used);
                Some(ConnectionAction::Continue)
            }
        }
    }

    fn write(&mut self, stream: &mut impl Write) -> std::io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        stream.write_all(&self.output)?;
        if let Some(mut engine) = self.engine() {
            engine.store.counters.bytes_written += self.output.len() as u64;
        }
        self.output.clear();
        Ok(())
    }
}
