//! Something in front of several servers that gives each connection to the next of them.

use core::net::SocketAddr;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// Spreads connections over these servers until the test process ends. Returns where it listens.
pub fn spread(servers: Vec<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for (client, server) in listener.incoming().zip(servers.iter().cycle()) {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else {
                continue;
            };
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (mut from, mut to) = (own(from), own(to));
                thread::spawn(move || {
                    // Whatever goes wrong, both ends notice.
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    address
}

fn own(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a socket")
}
