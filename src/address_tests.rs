//! Tests of names that lead to several addresses, for both APIs.

use crate::net::connect::Names;
use crate::server::Server;
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::{Arc, Mutex};

/// A time limit longer than any step here takes on a loaded machine.
const LONG: Duration = Duration::from_secs(60);

fn server(last: u8, port: u16) -> (Server, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, last], port));
    let server = Server::builder().listen(address).start();
    let server = server.expect("the address is free");
    let address = server.socket_addr().expect("it listens on a port");
    (server, address)
}

fn names(addresses: &[SocketAddr]) -> Names {
    Arc::new(Mutex::new(addresses.to_vec()))
}

fn set(names: &Names, addresses: &[SocketAddr]) {
    *names.lock().expect("no panics with it") = addresses.to_vec();
}

/// The tests, for an API whose calls are followed by `$await`.
macro_rules! tests {
    ($test:meta, [$($async:tt)?], [$($await:tt)*], $sleep:path) => {
        use super::{LONG, names, server, set};
        use crate::engine::{ClientBuilder, ErrorKind, Severity};
        use crate::net::connect::Names;
        use crate::net::connect::tests::HalfDead;
        use core::time::Duration;
        use std::string::ToString;
        use std::time::Instant;

        fn builder(names: &Names) -> ClientBuilder<Client> {
            let builder = Client::builder().server("pool:11211").names(names);
            builder
                .restart_guard(false)
                .connect_timeout(LONG)
                .operation_timeout(LONG)
        }

        #[$test]
        $($async)? fn name_with_two_servers_is_refused() {
            let ((_one, a), (_two, b)) = (server(2, 0), server(3, 0));
            for both in [[a, b], [b, a]] {
                let names = names(&both);
                let error = builder(&names).build()$($await)*.expect_err("two servers");
                assert_eq!(error.kind(), ErrorKind::UnsupportedServer);
                let text = error.to_string();
                for part in [&a.to_string(), &b.to_string(), "different servers"] {
                    assert!(text.contains(part), "{text}");
                }
                let diagnosis = builder(&names).diagnose()$($await)*.expect("they answer");
                let check = diagnosis.check("instances").expect("a check");
                assert_eq!(check.severity, Severity::Unsafe, "{check:?}");
            }
        }

        /// A name with the addresses of one server, as for a server on `127.0.0.1` and `::1`.
        #[$test]
        $($async)? fn server_with_two_addresses_is_accepted() {
            let (_server, a) = server(2, 0);
            // The embedded server listens on one address only.
            let names = names(&[a, a]);
            let client = builder(&names).build()$($await)*.expect("one server");
            let guard = client.lock("a").acquire()$($await)*.expect("free");
            let _ = guard.release()$($await)*.expect("answered");
            let diagnosis = client.diagnose()$($await)*.expect("it answers");
            let check = diagnosis.check("instances").expect("a check");
            assert_eq!(check.severity, Severity::Fine, "{check:?}");
        }

        /// The client finds a live server beside an address that swallows everything, within the connect
        /// timeout.
        #[$test]
        $($async)? fn silent_address_is_skipped() {
            let half = HalfDead::new();
            let (_server, a) = server(4, 0);
            let names = names(&[half.dead, a]);
            let limit = Duration::from_secs(2);
            let client = builder(&names).connect_timeout(limit).build()$($await)*;
            let client = client.expect("one of them is alive");
            let guard = client.lock("a").try_acquire()$($await)*;
            assert!(guard.expect("answered").is_some());
        }

        #[$test]
        $($async)? fn name_moved_from_live_server_refused() {
            let ((one, a), (_two, b)) = (server(2, 0), server(3, 0));
            let names = names(&[a]);
            let client = builder(&names).build()$($await)*.expect("one server");
            set(&names, &[b]);
            // The connection ends, and the next one would lead to the other server.
            one.restart();
            let error = client
                .lock("a")
                .try_acquire()$($await)*
                .expect_err("it is another server");
            assert_eq!(error.kind(), ErrorKind::UnsupportedServer, "{error}");
            assert!(error.to_string().contains("led before"), "{error}");
            // The server has moved for good.
            drop(one);
            let end = Instant::now() + LONG;
            loop {
                match client.lock("a").try_acquire()$($await)* {
                    Ok(guard) => break assert!(guard.is_some()),
                    Err(error) => assert!(Instant::now() < end, "{error}"),
                }
                $sleep(Duration::from_millis(5))$($await)*;
            }
        }
    };
}

#[cfg(feature = "tokio")]
mod asynchronous {
    use crate::Client;

    tests!(tokio::test, [async], [.await], tokio::time::sleep);
}

#[cfg(feature = "blocking")]
mod threads {
    use crate::blocking::Client;

    tests!(test, [], [], std::thread::sleep);
}
