//! The events of the library are those that `docs/events.md` describes, in both APIs, and bear no
//! secret and nothing of another client's record.
#![cfg(all(feature = "tokio", feature = "blocking", feature = "server"))]

mod support;

use core::cell::RefCell;
use core::fmt::{Debug, Write as _};
use core::iter::repeat_with;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use either::{APIS, Api, Client, Guard, Settings, until};
use memlatch::server::Server;
use memlatch::{ErrorKind, LossReason, ReleaseOutcome};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use support::either;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const USER: &str = "alibaba";
const PASSWORD: &str = "sesame-canary";
const NEIGHBOUR: &str = "neighbour-canary";

/// A record that a client elsewhere has left.
const RECORD: &str =
    "m1 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f 200 1795337300 77 host-canary label-canary";

/// An event, or the beginning of a span.
#[derive(Debug, Clone)]
struct Told {
    is_span: bool,
    name: &'static str,
    target: String,
    level: String,
    fields: BTreeMap<&'static str, String>,
    /// The spans in which it is emitted.
    within: Vec<&'static str>,
}

impl Told {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

static TOLD: Mutex<Vec<Told>> = Mutex::new(Vec::new());

fn told() -> MutexGuard<'static, Vec<Told>> {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names of all spans, by their number.
static SPANS: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

thread_local! {
    static ENTERED: RefCell<Vec<Id>> = const { RefCell::new(Vec::new()) };
}

/// Listens to everything.
struct Listener;

impl Listener {
    fn take(is_span: bool, metadata: &Metadata<'static>, fields: Fields) {
        let spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
        let within = ENTERED.with_borrow(|entered| {
            let names = entered.iter().map(|id| spans[id.into_u64() as usize - 1]);
            names.collect()
        });
        told().push(Told {
            is_span,
            name: metadata.name(),
            target: metadata.target().to_owned(),
            level: metadata.level().as_str().to_ascii_lowercase(),
            fields: fields.0,
            within,
        });
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("memlatch")
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        Self::take(true, attributes.metadata(), fields);
        let mut spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
        spans.push(attributes.metadata().name());
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        Self::take(false, event.metadata(), fields);
    }

    fn enter(&self, id: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(id.clone()));
    }

    fn exit(&self, id: &Id) {
        let left = ENTERED.with_borrow_mut(Vec::pop);
        assert_eq!(left.as_ref(), Some(id), "spans are left in turn");
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// A row of a table in the documentation.
#[derive(Debug)]
struct Row {
    level: String,
    fields: BTreeSet<String>,
}

/// The table under a heading of the documentation, by the first column.
fn table(heading: &str) -> BTreeMap<String, Row> {
    let text = fs::read_to_string(root().join("docs/events.md")).expect("the documentation");
    let (_, section) = text.split_once(heading).expect("the heading");
    let section = section.split("\n## ").next().expect("a section");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let words = |cell: &str| -> Vec<String> {
            let words = cell.split_whitespace();
            words
                .map(|word| word.trim_matches('`').to_owned())
                .collect()
        };
        let row = Row {
            level: cells[2].to_owned(),
            fields: words(cells[3]).into_iter().collect(),
        };
        (cells[1].trim_matches('`').to_owned(), row)
    };
    rows.map(row).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Texts that no event may contain.
static SECRETS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A server with accounts.
fn server() -> Server {
    let server = Server::builder().auth([(USER, PASSWORD)]).start();
    server.expect("a free port")
}

/// The same, started just now.
fn young_server() -> Server {
    let server = Server::builder().auth([(USER, PASSWORD)]);
    server.uptime(Duration::ZERO).start().expect("a free port")
}

/// The nonce of the record of a lock that is held.
fn remember_nonce(server: &Server, guard: &Guard) {
    let record = server.item(guard.key()).expect("it is held");
    let record = String::from_utf8(record).expect("text");
    let nonce = record.split(' ').nth(1).expect("a nonce");
    assert_eq!(nonce.len(), 32, "{record}");
    let mut secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    secrets.push(nonce.to_owned());
}

/// Stores a record past the clients.
fn set(server: &Server, key: &str, value: &str) {
    let address = server.socket_addr().expect("on a port");
    let mut stream = TcpStream::connect(address).expect("a connection");
    let secret = format!("{USER} {PASSWORD}");
    for (key, value) in [("auth", secret.as_str()), (key, value)] {
        write!(stream, "set {key} 0 60 {}\r\n{value}\r\n", value.len()).expect("sent");
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"STORED\r\n");
    }
}

/// An API and the servers that it alone uses.
struct Story {
    api: Api,
    servers: BTreeSet<String>,
}

impl Story {
    fn settings(&mut self, server: &Server) -> Settings {
        let url = server.address();
        self.servers.insert(url.clone());
        Settings {
            auth: Some((USER, PASSWORD)),
            label: "own-label",
            ..Settings::new(url)
        }
    }

    fn client(&mut self, server: &Server) -> Client {
        let settings = self.settings(server);
        Client::new(self.api, &settings).expect("the server is there")
    }

    /// A client that does not wait long for answers.
    fn hasty_client(&mut self, server: &Server) -> Client {
        let settings = Settings {
            operation_timeout: Duration::from_millis(200),
            ..self.settings(server)
        };
        Client::new(self.api, &settings).expect("the server is there")
    }

    /// All events that were emitted with these servers.
    fn told(&self) -> Vec<Told> {
        let all = told();
        let ours = all
            .iter()
            .filter(|one| self.servers.contains(one.field("server")));
        ours.cloned().collect()
    }

    fn events(&self, name: &str) -> Vec<Told> {
        let mut all = self.told();
        all.retain(|one| !one.is_span && one.name == name);
        all
    }

    /// The values of a field of an event.
    fn values(&self, event: &str, field: &str) -> BTreeSet<String> {
        let events = self.events(event);
        events
            .iter()
            .map(|one| one.field(field).to_owned())
            .collect()
    }

    fn holding_and_waiting(&mut self) {
        let server = server();
        let client = self.client(&server);
        let settings = Settings {
            label: NEIGHBOUR,
            ..self.settings(&server)
        };
        let neighbour = Client::new(self.api, &settings).expect("the server is there");

        let guard = client.lock("plain").acquire().expect("free");
        remember_nonce(&server, &guard);
        guard.renew().expect("an answer");
        let guard = guard.hand_to(&client);
        assert_eq!(guard.release().expect("told"), ReleaseOutcome::Released);
        client
            .lock("quiet")
            .acquire()
            .expect("free")
            .release_quietly();

        let guard = neighbour.lock("taken").acquire().expect("free");
        remember_nonce(&server, &guard);
        assert!(client.lock("taken").try_acquire().expect("told").is_none());
        let limit = Duration::from_millis(20);
        let error = client
            .lock("taken")
            .acquire_timeout(limit)
            .err()
            .expect("held");
        assert!(
            error.to_string().contains(NEIGHBOUR),
            "the program is told who: {error}"
        );
        thread::scope(|scope| {
            let waiter = scope.spawn(|| client.lock("taken").acquire().expect("in the end"));
            until("it waits", || client.stats().waiting == 1);
            until("it is told", || self.events("waiting").len() >= 2);
            drop(guard);
            let guard = waiter.join().expect("no panic");
            // Another waits for the new holder.
            let waiter = scope.spawn(|| client.lock("taken").acquire().expect("in the end"));
            until("it waits", || client.stats().waiting == 1);
            assert_eq!(guard.release().expect("told"), ReleaseOutcome::Released);
            drop(waiter.join().expect("no panic"));
        });
        set(&server, "memlatch:lock:old", RECORD);
        drop(client.lock("old").acquire().expect("its holder is dead"));
        let how = ["first-try", "handed-off", "taken-over", "waited"];
        assert_eq!(
            self.values("acquired", "method"),
            how.map(str::to_owned).into()
        );

        let guard = client.lock("evicted").acquire().expect("free");
        assert!(server.evict(guard.key()));
        guard.verify().expect_err("lost");
        drop(guard);
        let guard = client.lock("in vain").acquire().expect("free");
        assert!(server.evict(guard.key()));
        guard.release_quietly();
        // What comes next reads the answer.
        drop(client.lock("next").acquire().expect("free"));
        until("noticed", || client.quiet_failures() == 1);

        let guard = client.lock("forgotten").acquire().expect("free");
        server.restart();
        while guard.verify().expect_err("lost").kind() != ErrorKind::Lost {}
        assert_eq!(
            self.values("lock_lost", "reason"),
            ["server-restarted", "missing"].map(str::to_owned).into()
        );
    }

    fn silence(&mut self) {
        let server = server();
        let clients = [0; 3].map(|_| self.hasty_client(&server));
        let [holder, caller, other] = &clients;
        let lock = holder.lock("unreachable").lease(Duration::from_secs(4));
        let guard = lock.acquire().expect("free");
        remember_nonce(&server, &guard);
        // Longer than the lease, and so long that a busy machine notices.
        server.stall(Duration::from_secs(10));
        let unknown = |client: &Client, name: &str, lease| {
            let attempt = || client.lock(name).lease(lease).try_acquire();
            let kinds = repeat_with(|| attempt().err().map(|error| error.kind()));
            // A busy machine may send nothing within the timeout.
            let kind = kinds.skip_while(|kind| *kind == Some(ErrorKind::Unavailable));
            assert_eq!(kind.take(1).last(), Some(Some(ErrorKind::Unknown)));
        };
        unknown(caller, "removed", Duration::from_secs(600));
        unknown(other, "left", Duration::from_millis(300));
        assert_eq!(guard.lost(), LossReason::Unreachable);
        until("taken back", || !self.events("acquire_undone").is_empty());
        until("not taken back", || {
            !self.events("acquire_undo_failed").is_empty()
        });
        let lost = self.events("lock_lost");
        let lost = lost.iter().filter(|one| one.field("name") == "unreachable");
        let reasons: Vec<_> = lost.map(|one| one.field("reason")).collect();
        assert_eq!(reasons, ["unreachable"]);
        let in_danger = self.events("lease_expiring");
        assert_eq!(in_danger.len(), 1, "once per dip: {in_danger:?}");
    }

    /// Renewals begin late, and are in time again.
    fn falling_behind(&mut self) {
        let server = server();
        let client = self.client(&server);
        // Half of it and more is left when a renewal is due.
        let lease = Duration::from_millis(900);
        until("told", || {
            // More than one flight renews.
            let names: Vec<_> = (0..40).map(|number| number.to_string()).collect();
            let locks = names.iter().map(|name| client.lock(name).lease(lease));
            let guards: Vec<_> = locks.map(|lock| lock.acquire().expect("free")).collect();
            match self.api {
                Api::Async => either::occupy_runtime(lease * 2 / 3),
                Api::Blocking => {
                    // The keeper is held up by the first flight.
                    server.stall(lease * 2 / 3);
                    thread::sleep(lease * 2 / 3);
                }
            }
            // Renewed, or lost on a machine that is very busy.
            for guard in &guards {
                let _ = guard.renew();
            }
            client.stats().renewals_late > 0
        });
        assert!(!self.events("falling_behind").is_empty());
    }

    /// One client uses longer leases than another knows of.
    fn longer_lease(&mut self) {
        let server = server();
        let _long = self.client(&server);
        let settings = Settings {
            guard: Some(Duration::from_secs(1)),
            ..self.settings(&server)
        };
        let _short = Client::new(self.api, &settings).expect("the server is there");
        assert_eq!(self.events("longer_lease").len(), 1);
    }

    fn youth_and_end(&mut self) {
        let server = young_server();
        let longest = Duration::from_secs(1);
        let settings = Settings {
            guard: Some(longest),
            ..self.settings(&server)
        };
        let client = Client::new(self.api, &settings).expect("the server is there");
        drop(
            client
                .lock("young")
                .lease(longest)
                .acquire()
                .expect("in the end"),
        );

        let client = self.hasty_client(&server);
        let lock = client.lock("orphan").lease(Duration::from_millis(300));
        let guard = lock.acquire().expect("free");
        drop(server);
        guard.release().expect_err("no server");
        until("given up", || client.stats().release_failures == 1);
        let later = ["false", "true"].map(str::to_owned).into();
        until("told", || {
            self.values("release_failed", "will_retry") == later
        });
    }

    fn password_in_the_clear(&mut self) {
        // Addresses for documentation (RFC 5737): no server is there.
        let url = match self.api {
            Api::Async => "memcached://192.0.2.1:11211",
            Api::Blocking => "memcached://192.0.2.2:11211",
        };
        self.servers.insert(url.to_owned());
        let settings = Settings {
            auth: Some((USER, PASSWORD)),
            ..Settings::new(url)
        };
        assert!(Client::new(self.api, &settings).is_err());
    }

    /// Every documented event was emitted, and every emitted event is documented.
    fn check(&self) {
        let (events, spans) = (table("\n## Events\n"), table("\n## Spans\n"));
        let fields = table("\n## Fields\n");
        assert!(events.len() > 15 && spans.len() == 2 && fields.len() > 10);
        let mut seen: BTreeMap<(bool, &str), BTreeSet<String>> = BTreeMap::new();
        for one in self.told() {
            let rows = if one.is_span { &spans } else { &events };
            let row = rows.get(one.name);
            let row = row.unwrap_or_else(|| panic!("not documented: {one:?}"));
            assert_eq!((one.target.as_str(), &one.level), ("memlatch", &row.level));
            let named = one.fields.keys().filter(|name| **name != "message");
            let named: BTreeSet<_> = named.map(|name| (*name).to_owned()).collect();
            assert!(named.is_subset(&row.fields), "{one:?} and {row:?}");
            seen.entry((one.is_span, one.name))
                .or_default()
                .extend(named);
            let within = match (one.name, one.field("outcome")) {
                _ if one.is_span => continue,
                ("acquired" | "not_acquired" | "waiting", _) => "acquire",
                ("released", "released") => "release",
                _ => continue,
            };
            assert!(one.within.contains(&within), "{one:?}");
        }
        for (is_span, rows) in [(false, &events), (true, &spans)] {
            for (name, row) in rows {
                let seen = seen.get(&(is_span, name.as_str()));
                assert_eq!(seen, Some(&row.fields), "{name} by {:?}", self.api);
            }
        }
        let documented = |field: &String| {
            let both = fields
                .keys()
                .any(|row| row.split("`, `").any(|name| name == field));
            assert!(both, "{field} is not documented");
        };
        events
            .values()
            .chain(spans.values())
            .flat_map(|row| &row.fields)
            .for_each(documented);
    }
}

#[test]
fn events_are_documented_without_secrets() {
    tracing::subscriber::set_global_default(Listener).expect("the only one");
    let number = AtomicU64::new(0);
    thread::scope(|scope| {
        for api in APIS {
            let number = &number;
            scope.spawn(move || {
                let mut story = Story {
                    api,
                    servers: BTreeSet::new(),
                };
                story.holding_and_waiting();
                story.silence();
                story.falling_behind();
                story.longer_lease();
                story.youth_and_end();
                story.password_in_the_clear();
                story.check();
                number.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(number.into_inner(), 2);
    let mut text = String::new();
    for one in told().iter() {
        let _ = writeln!(text, "{one:?}");
    }
    let mut secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(secrets.len() >= 6, "{secrets:?}");
    secrets.extend(["canary", PASSWORD, NEIGHBOUR, "0f0f0f0f", USER].map(str::to_owned));
    for secret in secrets.iter() {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

/// Events are emitted in one place, so that both APIs say the same.
#[test]
fn events_are_in_one_place() {
    let mut folders = vec![root().join("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read_to_string(&path).is_ok_and(|text| text.contains("tracing::")) {
                let path = path.strip_prefix(root()).expect("below");
                found.push(path.display().to_string());
            }
        }
    }
    found.sort_unstable();
    assert_eq!(found, ["src/cli/log.rs", "src/engine/events.rs"]);
}
