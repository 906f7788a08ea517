//! Cache entries that press locks out of a small server.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle, sleep};

/// Number of entries that are written at a time, and the rest in between.
const BATCH: u64 = 500;
const REST: Duration = Duration::from_millis(12);

/// The lengths of the values. memcached evicts by classes of size: most of these are in the class
/// of the records and the ones beside it, and one in that of the counters.
const LENGTHS: [usize; 8] = [8, 55, 60, 65, 70, 75, 95, 110];

/// Writes entries until it is dropped.
#[derive(Debug)]
pub(crate) struct EvictionLoad {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EvictionLoad {
    pub(crate) fn start(server: SocketAddr) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut number = 0;
            while !told.load(Ordering::Relaxed) {
                // A server that is stopped for long ends the connection by its limit.
                if write(server, &told, &mut number).is_err() {
                    sleep(Duration::from_millis(100));
                }
            }
        });
        Self {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for EvictionLoad {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(server: SocketAddr, over: &AtomicBool, number: &mut u64) -> io::Result<()> {
    let limit = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&server, limit)?;
    stream.set_write_timeout(Some(limit))?;
    let mut batch = Vec::new();
    while !over.load(Ordering::Relaxed) {
        batch.clear();
        for _ in 0..BATCH {
            *number += 1;
            let length = LENGTHS[(*number % LENGTHS.len() as u64) as usize];
            write!(batch, "set flood{number} 0 0 {length} noreply\r\n")?;
            batch.resize(batch.len() + length, b'x');
            batch.extend_from_slice(b"\r\n");
        }
        stream.write_all(&batch)?;
        sleep(REST);
    }
    Ok(())
}
