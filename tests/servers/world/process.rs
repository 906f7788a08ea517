//! The library in a process of its own kind: as process 1, and without descriptors to spare.

use super::either::{APIS, Client, Settings};
use super::memcached::{self, PROCESS_ID_1, can_have_process_id_1};
use core::time::Duration;
use memlatch::{Protocol, ReleaseOutcome};
use std::env;
use std::fs::File;
use std::process::{Command, Stdio};

const LEASE: Duration = Duration::from_secs(10);

/// The variable with the server's address, for a process that is started here.
const URL: &str = "MEMLATCH_WORLD_URL";

/// Number of descriptors of the process that has few.
const DESCRIPTORS: usize = 32;

/// Runs a function of this test in a process of its own, once for each version. `wrapper` is what
/// the process is started by.
fn in_process(wrapper: &[&str], function: &str) {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let mut command = Command::new(wrapper[0]);
        command
            .args(&wrapper[1..])
            .arg(env::current_exe().expect("this binary"))
            .args(["--ignored", "--exact", function, "--nocapture"])
            .env(URL, server.url())
            .stdin(Stdio::null());
        let output = command.output().expect("it can be run");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{server}: {text}{errors}");
        assert!(text.contains("1 passed"), "{server}: {text}{errors}");
    }
}

fn clients() -> Vec<Client> {
    let mut clients = Vec::new();
    for protocol in [None, Some(Protocol::Classic)] {
        for api in APIS {
            let url = env::var(URL).expect("run by another test");
            let mut settings = Settings::new(url);
            settings.protocol = protocol;
            clients.push(Client::new(api, &settings).expect("the server is there"));
        }
    }
    clients
}

/// All that a lock does.
fn works(client: &Client) {
    let guard = client.lock("a").lease(LEASE).acquire().expect("it is free");
    guard.verify().expect("it is held");
    let _ = guard.renew().expect("it is held");
    let guard = guard.hand_to(client);
    assert!(guard.is_valid());
    let outcome = guard.release().expect("the server is there");
    assert_eq!(outcome, ReleaseOutcome::Released);
}

#[test]
fn locks_work_in_process_1() {
    if can_have_process_id_1() {
        let wrapper = [&["unshare"], &PROCESS_ID_1[..]].concat();
        in_process(&wrapper, "world::process::as_process_1");
    }
}

#[test]
#[ignore = "what another test runs as process 1"]
fn as_process_1() {
    assert_eq!(std::process::id(), 1);
    for client in clients() {
        works(&client);
        let guard = client.lock("b").lease(LEASE).acquire().expect("it is free");
        // Another client is process 1 as well, and not the holder for that.
        for other in clients() {
            let second = other.lock("b").lease(LEASE).try_acquire();
            assert!(second.expect("the server is there").is_none());
        }
        let outcome = guard.release().expect("the server is there");
        assert_eq!(outcome, ReleaseOutcome::Released);
    }
}

#[test]
fn locks_survive_without_spare_descriptors() {
    let limit = format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\"");
    in_process(
        &["/bin/sh", "-c", &limit],
        "world::process::with_few_descriptors",
    );
}

#[test]
#[ignore = "what another test runs with few descriptors"]
fn with_few_descriptors() {
    let clients = clients();
    for client in &clients {
        works(client);
    }
    // Now there are none left.
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
        assert!(taken.len() < DESCRIPTORS, "the limit does not hold");
    }
    for client in &clients {
        works(client);
    }
    for api in APIS {
        let url = env::var(URL).expect("run by another test");
        let error = Client::new(api, &Settings::new(url)).err();
        let error = error.expect("there is no descriptor for a connection");
        assert!(error.is_unavailable(), "{error}");
        let cause = format!("{error:?}");
        assert!(
            cause.contains("24") || cause.contains("Too many open files"),
            "{cause}"
        );
    }
    drop(taken);
    for client in self::clients() {
        works(&client);
    }
}
