//! The thread that accepts connections.

use super::connection;
use super::shared::Shared;
use super::stream::{Listener, Stream};
use super::watcher;
use alloc::sync::Arc;
use core::time::Duration;
use std::io::Write;
use std::thread;

/// Enough for a connection: its buffers are on the heap but for one chunk.
const STACK: usize = 256 * 1024;

/// Accepts until the server stops.
pub(crate) fn run(shared: &Arc<Shared>, listener: &Listener) {
    loop {
        let accepted = listener.accept();
        if shared.is_stopping() {
            return;
        }
        let mut turn_away = shared.turn_away_flag();
        if *turn_away {
            drop(accepted);
            listener.turn_away();
            *turn_away = false;
            shared.turned_away.notify_all();
            continue;
        }
        drop(turn_away);
        match accepted {
            Ok(stream) => admit(shared, stream),
            // Out of file descriptors, most likely. Trying again at once would only spin.
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn admit(shared: &Arc<Shared>, mut stream: Stream) {
    stream.send_at_once();
    // memcached looks in whole seconds whether more than the limit has passed.
    let limit = shared.settings.idle_timeout.filter(|_| stream.is_tcp());
    let limit = limit.map(|limit| limit + Duration::from_secs(1));
    if limit.is_some_and(|limit| stream.set_read_timeout(limit).is_err()) {
        return;
    }
    let Ok(handle) = stream.try_clone() else {
        return;
    };
    let Some(ticket) = shared
        .registry
        .enter(handle, shared.settings.max_connections)
    else {
        let _ = stream.write_all(b"ERROR Too many open connections\r\n");
        stream.end();
        return;
    };
    let theirs = Arc::clone(shared);
    let thread = thread::Builder::new()
        .name("memlatch-server".into())
        .stack_size(STACK)
        .spawn(move || {
            if let Some(log) = connection::serve(&theirs, ticket, &mut stream) {
                watcher::follow(&log, &mut stream);
            }
            // Only now is the socket closed: the registry has a handle on it as well.
            theirs.registry.leave(ticket);
        });
    match thread {
        Ok(thread) => shared.registry.keep(thread),
        Err(_) => shared.registry.leave(ticket),
    }
}
