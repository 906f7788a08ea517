//! A connection that has become a log.

use super::stream::Stream;
use super::watch_log::LogBuffer;
use core::time::Duration;
use std::io::{ErrorKind, Read, Write};

/// The time for which lines are gathered. The real server takes between a millisecond and a second.
const PAUSE: Duration = Duration::from_millis(5);

/// Sends the contents of the log until the other side ends the connection. Input from that side is
/// not read.
pub(crate) fn follow(log: &LogBuffer, stream: &mut Stream) {
    if stream.set_read_timeout(PAUSE).is_err() {
        return;
    }
    let mut ignored = [0; 512];
    loop {
        let lines = log.take();
        if !lines.is_empty() && stream.write_all(&lines).is_err() {
            return;
        }
        match stream.read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => return,
            },
        }
    }
}
