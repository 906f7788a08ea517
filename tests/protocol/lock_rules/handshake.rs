//! The first exchange on every connection.

use super::driver::{Client, Names, World, longest, nonce, whole};
use super::server::{EPOCH, FakeServer, Kind, SECOND, Stats, birth, secs};
use core::time::Duration;
use memlatch::proto::{
    Handshake, InstanceWord, Instant, Protocol, SENTINEL_EXPIRY, ServerError, ServerInstance,
};
use memlatch::wire::{Flight, Replies};

fn sentinel(world: &mut World) -> Option<(String, Option<u64>)> {
    let key = Names::new("L").sentinel();
    let item = world.server.item(world.now, key.as_bytes())?;
    let text = String::from_utf8(item.value.clone()).expect("text");
    Some((text, item.expiry))
}

#[test]
fn each_server_gets_its_dialect() {
    for (kind, protocol, explicit_cas) in [
        (Kind::Meta, Protocol::Meta, true),
        (Kind::MetaWithoutE, Protocol::Meta, false),
        (Kind::Classic, Protocol::Classic, false),
    ] {
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        let view = world.view(0);
        assert_eq!(view.capabilities.protocol, protocol);
        assert_eq!(view.capabilities.explicit_cas, explicit_cas);
        let incarnation = ServerInstance {
            pid: 4711,
            started: EPOCH - 2,
            word: InstanceWord::from_bits(0xaa),
        };
        assert_eq!(view.instance, incarnation, "as `stats` tells it");
        let second = view
            .clock
            .seconds_lower_bound(world.clients[0].moment(world.now));
        assert_eq!(second, Some(EPOCH + 1000));
    }
}

#[test]
fn experimental_meta_commands_are_not_used() {
    for (version, protocol) in [
        ("1.6.9", Protocol::Classic),
        ("1.6.0-beta2", Protocol::Classic),
        ("1.6.10", Protocol::Meta),
        ("1.7.0", Protocol::Meta),
        ("2.0", Protocol::Meta),
    ] {
        let mut world = World::new(Kind::MetaWithoutE);
        world.server.version = Some(version);
        world.connect(0).expect("a server");
        let capabilities = world.view(0).capabilities;
        assert_eq!(capabilities.protocol, protocol, "{version}");
        assert!(!capabilities.explicit_cas || protocol == Protocol::Meta);
    }
}

#[test]
fn dialect_can_be_chosen() {
    let mut world = World::new(Kind::Meta);
    let namespace = world.namespace.clone();
    let mut handshake = Handshake::new(
        &namespace,
        longest(),
        Some(Protocol::Classic),
        nonce(7 << 40),
    );
    let view = loop {
        let (flight, sent) = world.prepare_handshake(0, &mut handshake);
        let reply = world.server.handle(world.now, 0, flight.bytes());
        let over = handshake
            .interpret(&mut whole(&flight, &reply), sent, sent)
            .expect("well formed");
        if let Some(view) = over {
            break view.expect("a server");
        }
    };
    assert_eq!(view.capabilities.protocol, Protocol::Classic);
    assert!(!view.capabilities.explicit_cas);
}

#[test]
fn old_sentinel_handshake_takes_two_flights() {
    for kind in Kind::ALL {
        let mut world = World::new(kind);
        let before = sentinel(&mut world);
        assert!(before.is_some());
        let began = world.now;
        world.connect(0).expect("a server");
        assert_eq!(sentinel(&mut world), before, "{kind:?}");
        assert_eq!(Duration::from_nanos(world.now - began), 4 * world.trip);
        for (_, line) in &world.server.log {
            assert!(
                !line.starts_with("add") && !line.starts_with("cas"),
                "{line}"
            );
        }
    }
}

#[test]
fn absent_sentinel_is_created() {
    for kind in Kind::ALL {
        for fault in 0..3 {
            // A server that has forgotten something: the sentinel is not older than now.
            let mut world = World::fresh(kind);
            world.wait(Duration::from_secs(1000));
            match fault {
                0 => world.server.flush(world.now),
                1 => world.server.evictions = 1,
                _ => world.server.slabs_moved = 1,
            }
            let second = world.server.second(world.now);
            world.connect(0).expect("a server");
            let (value, expiry) = sentinel(&mut world).expect("founded");
            assert_eq!(expiry, Some(SENTINEL_EXPIRY));
            let born = birth(value.as_bytes()).expect("founded");
            // It may seem younger than it is, by what is not known of the clock; never older.
            assert!(born > second, "{kind:?}, fault {fault}");
            assert!(born <= second + 3, "{kind:?}, fault {fault}");
        }
    }
}

#[test]
fn flush_during_handshake_makes_memory_young() {
    for kind in Kind::ALL {
        // Each stands for a server that forgets between the first flight and the founding.
        for flight in [1, 2, 3] {
            let mut world = World::fresh(kind);
            world.wait(Duration::from_secs(1000));
            let namespace = world.namespace.clone();
            let mut handshake = Handshake::new(&namespace, longest(), None, nonce(7 << 40));
            let mut number = 0;
            loop {
                let (request, sent) = world.prepare_handshake(0, &mut handshake);
                if number == flight {
                    world.server.flush(world.now);
                }
                let second = world.server.second(world.now);
                let reply = world.server.handle(world.now, 0, request.bytes());
                let over = handshake
                    .interpret(&mut whole(&request, &reply), sent, sent)
                    .expect("well formed");
                number += 1;
                if let Some((value, _)) = sentinel(&mut world).filter(|_| number > flight) {
                    // At first there is no birth in it.
                    let born = birth(value.as_bytes()).unwrap_or(u64::MAX);
                    assert!(born > second, "{kind:?}: older than the flush");
                }
                if let Some(view) = over {
                    view.expect("a server");
                    break;
                }
            }
            assert!(number > flight, "the test flushed nothing");
        }
    }
}

#[test]
fn slow_creation_adds_no_memory_age() {
    for kind in Kind::ALL {
        for trip in [1, 100, 499, 501, 900, 1000] {
            let mut world = World::fresh(kind);
            world.wait(Duration::from_secs(1000));
            world.server.flush(world.now);
            let flushed = world.server.second(world.now);
            world.trip = Duration::from_millis(trip);
            let connected = world.connect(0);
            let (value, _) = sentinel(&mut world).expect("founded");
            let born = birth(value.as_bytes()).expect("founded");
            assert!(born > flushed, "{kind:?}, {trip} ms");
            match connected {
                Ok(()) => {}
                // A second to and fro is too slow to build on.
                Err(Some(ServerError::Rejected(_))) => assert!(trip > 500),
                Err(other) => panic!("{kind:?}, {trip} ms: {other:?}"),
            }
        }
    }
}

#[test]
fn next_client_finishes_sentinel_creation() {
    for kind in Kind::ALL {
        // The founder vanished between its two flights, or its second one was never carried out.
        let mut world = World::fresh(kind);
        world.wait(Duration::from_secs(1000));
        world.server.flush(world.now);
        let namespace = world.namespace.clone();
        let mut handshake = Handshake::new(&namespace, longest(), None, nonce(7 << 40));
        for _ in 0..3 {
            let (flight, sent) = world.prepare_handshake(0, &mut handshake);
            let reply = world.server.handle(world.now, 0, flight.bytes());
            let over = handshake
                .interpret(&mut whole(&flight, &reply), sent, sent)
                .expect("well formed");
            assert!(over.is_none(), "{kind:?}: it is not over yet");
        }
        let (value, _) = sentinel(&mut world).expect("stored");
        assert_eq!(
            birth(value.as_bytes()),
            None,
            "nothing says when it was born"
        );
        world.wait(Duration::from_secs(50));
        let second = world.server.second(world.now);
        world.connect(1).expect("a server");
        let (value, expiry) = sentinel(&mut world).expect("founded");
        assert_eq!(expiry, Some(SENTINEL_EXPIRY));
        let born = birth(value.as_bytes()).expect("founded");
        assert!(born > second && born <= second + 3, "{kind:?}: {born}");
        // The first founder comes back to life: the sentinel is as it is.
        let mut over = None;
        for _ in 0..2 {
            let (flight, sent) = world.prepare_handshake(0, &mut handshake);
            let reply = world.server.handle(world.now, 0, flight.bytes());
            over = handshake
                .interpret(&mut whole(&flight, &reply), sent, sent)
                .expect("well formed");
        }
        assert!(matches!(over, Some(Ok(_))), "{kind:?}: {over:?}");
        assert_eq!(sentinel(&mut world).expect("founded").0, value, "{kind:?}");
    }
}

#[test]
fn concurrent_creators_agree_on_sentinel() {
    for kind in Kind::ALL {
        let mut world = World::fresh(kind);
        world.wait(Duration::from_secs(1000));
        let namespace = world.namespace.clone();
        let mut handshakes = [
            Handshake::new(&namespace, longest(), None, nonce(7 << 40)),
            Handshake::new(&namespace, longest(), None, nonce(8 << 40)),
        ];
        let mut over = [false; 2];
        // Both see that there is none before either founds one.
        for round in 0..6 {
            for client in [0, 1] {
                if over[client] {
                    continue;
                }
                let (flight, sent) = world.prepare_handshake(client, &mut handshakes[client]);
                let reply = world.server.handle(world.now, client, flight.bytes());
                let view = handshakes[client]
                    .interpret(&mut whole(&flight, &reply), sent, sent)
                    .expect("well formed");
                if let Some(view) = view {
                    view.expect("a server");
                    over[client] = true;
                }
            }
            assert!(round > 1 || sentinel(&mut world).is_none());
        }
        assert_eq!(over, [true; 2], "{kind:?}");
        let (value, _) = sentinel(&mut world).expect("founded");
        assert!(birth(value.as_bytes()).is_some());
    }
}

#[test]
fn server_without_cas_is_refused() {
    for kind in Kind::ALL {
        let mut old = World::new(kind);
        old.server = FakeServer::new(kind);
        old.server.cas_enabled = false;
        // With a sentinel of earlier days, and without.
        let key = Names::new("L").sentinel();
        let mut fresh = World::fresh(kind);
        fresh.server.cas_enabled = false;
        old.server.found(old.now, &key, EPOCH - 300);
        for mut world in [old, fresh] {
            assert_eq!(world.connect(0), Err(Some(ServerError::NoCas)), "{kind:?}");
        }
    }
}

#[test]
fn unidentified_server_is_refused() {
    for kind in Kind::ALL {
        for stats in [
            Stats::Refused,
            Stats::Without("pid"),
            Stats::Without("uptime"),
            Stats::Without("time"),
        ] {
            for mut world in [World::new(kind), World::fresh(kind)] {
                world.server.stats = stats;
                let refused = Err(Some(ServerError::NoStats));
                assert_eq!(world.connect(0), refused, "{kind:?} {stats:?}");
            }
        }
        for (line, clock_set) in [("time 2592001", false), ("time 2592002", true)] {
            let mut world = World::new(kind);
            world.server.stats = Stats::With(line);
            let expected = if clock_set {
                Ok(())
            } else {
                Err(Some(ServerError::ClockNotSet))
            };
            assert_eq!(world.connect(0).map(|_| ()), expected, "{kind:?} {line}");
        }
        for line in [
            // memcached's proxy, mcrouter.
            "proxy_conn_requests 0",
            "proxy_reqs_processing 0",
        ] {
            for mut world in [World::new(kind), World::fresh(kind)] {
                world.server.stats = Stats::With(line);
                assert_eq!(world.connect(0), Err(Some(ServerError::Proxy)), "{kind:?}");
            }
        }
        // The counters are only about how far the memory reaches back.
        for stats in [Stats::Without("cmd_flush"), Stats::Without("evictions")] {
            let mut world = World::fresh(kind);
            world.wait(Duration::from_secs(1000));
            world.server.stats = stats;
            world.connect(0).expect("a server");
            let (value, _) = sentinel(&mut world).expect("founded");
            let born = birth(value.as_bytes()).expect("founded");
            assert!(
                born >= EPOCH + 1000,
                "{stats:?}: what is not told is not believed"
            );
        }
    }
}

#[test]
fn foreign_sentinel_item_is_refused() {
    for kind in Kind::ALL {
        for value in [&b""[..], b"hello", b"1795337300", b"s2 ready 7 aa 1 1 -"] {
            let mut world = World::new(kind);
            let key = Names::new("L").sentinel();
            world.server.set(world.now, key.as_bytes(), value, 0);
            let refused = Err(Some(ServerError::ForeignItem));
            assert_eq!(world.connect(0), refused, "{kind:?}");
            assert_eq!(sentinel(&mut world).expect("untouched").0.as_bytes(), value);
        }
    }
}

#[test]
fn full_server_reports_connection_limit() {
    let names = Names::new("L");
    let mut handshake = Handshake::new(&names.namespace, longest(), None, nonce(7 << 40));
    let mut flight = Flight::new();
    handshake.prepare(Client::new(0).now(secs(1.0)), &mut flight);
    // That line is all there is before the end of the connection.
    let mut replies = Replies::new(b"ERROR Too many open connections\r\n");
    let sent = Instant::from_nanos(SECOND);
    let over = handshake.interpret(&mut replies, sent, sent);
    let failure = over.expect("well formed").expect("over").err();
    assert_eq!(failure, Some(ServerError::TooManyConnections));
}

#[test]
fn full_server_without_sentinel_is_refused() {
    for kind in Kind::ALL {
        let mut world = World::fresh(kind);
        world.server.memory_full = true;
        let refused = Err(Some(ServerError::OutOfMemory));
        assert_eq!(world.connect(0), refused, "{kind:?}");
        let mut world = World::new(kind);
        world.server.memory_full = true;
        assert_eq!(
            world.connect(0),
            Ok(()),
            "{kind:?}: nothing is to be stored"
        );
    }
}
