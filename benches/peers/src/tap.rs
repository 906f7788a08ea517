//! A listener that passes everything on to a server and keeps what went by.

use crate::Result;
use rustix::event::{PollFd, PollFlags, poll};
use std::fmt;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The bytes that went one way before anything went the other.
#[derive(Clone)]
pub struct Burst {
    /// Of which connection: they are counted.
    pub connection: usize,
    pub up: bool,
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.up { "> " } else { "< " })?;
        write!(f, "{}", self.bytes.escape_ascii())
    }
}

/// Stands in front of a server for as long as the process runs.
#[derive(Debug)]
pub struct Tap {
    pub address: String,
    bursts: Arc<Mutex<Vec<Burst>>>,
}

impl Tap {
    /// # Errors
    /// No port is to be had.
    pub fn before(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let bursts = Arc::default();
        let (server, kept) = (server.to_owned(), Arc::clone(&bursts));
        thread::spawn(move || {
            for (connection, client) in listener.incoming().flatten().enumerate() {
                let (server, kept) = (server.clone(), Arc::clone(&kept));
                // A connection that breaks is noticed by the client.
                thread::spawn(move || pass(connection, client, &server, &kept));
            }
        });
        Ok(Self { address, bursts })
    }

    /// Returns the bytes that have passed since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<Burst> {
        std::mem::take(&mut *self.bursts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn pass(
    connection: usize,
    mut client: TcpStream,
    server: &str,
    bursts: &Mutex<Vec<Burst>>,
) -> Result<()> {
    let mut server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut buffer = [0; 64 * 1024];
    loop {
        let readable = {
            let mut ends = [
                PollFd::new(&client, PollFlags::IN),
                PollFd::new(&server, PollFlags::IN),
            ];
            poll(&mut ends, None)?;
            ends.map(|end| !end.revents().is_empty())
        };
        for (up, readable) in [true, false].into_iter().zip(readable) {
            if !readable {
                continue;
            }
            let (from, to) = match up {
                true => (&mut client, &mut server),
                false => (&mut server, &mut client),
            };
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            // Before it is passed on: a client that has the reply finds it here.
            {
                let mut bursts = bursts.lock().unwrap_or_else(PoisonError::into_inner);
                match bursts.last_mut() {
                    Some(last) if (last.connection, last.up) == (connection, up) => {
                        last.bytes.extend_from_slice(&buffer[..length]);
                    }
                    _ => bursts.push(Burst {
                        connection,
                        up,
                        bytes: buffer[..length].to_vec(),
                    }),
                }
            }
            to.write_all(&buffer[..length])?;
        }
    }
}
