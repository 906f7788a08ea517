//! The blocking API.

use super::{LEASE, LONG, TestServer, lost, millis};
use memlatch::blocking::Client;
use memlatch::{ErrorKind, LossReason, ReleaseOutcome};
use std::thread;
use std::time::Instant;

#[test]
fn held_lock_is_verified() {
    for target in &TestServer::all() {
        let one = target.blocking_client();
        for lock in [one.lock("a"), one.lock("lean").without_record()] {
            let guard = lock.lease(LONG).acquire().expect("free");
            guard.verify().expect("just acquired");
            assert!(guard.is_valid());
        }
    }
}

#[test]
fn loss_found_by_verify_is_reported() {
    for target in &TestServer::all() {
        let one = target.blocking_client();
        for reason in [LossReason::Missing, LossReason::TakenOver] {
            let guard = one.lock("a").lease(LONG).acquire().expect("free");
            if reason == LossReason::Missing {
                target.delete(guard.key());
            } else {
                target.overtake(guard.key());
            }
            thread::scope(|scope| {
                let told = scope.spawn(|| guard.lost());
                lost(&guard.verify().expect_err("lost"), reason);
                assert_eq!(told.join().expect("no panic"), reason);
            });
            assert!(!guard.is_valid());
            // Without asking again.
            target.server.stop_signal();
            lost(&guard.verify().expect_err("lost"), reason);
            target.server.continue_signal();
        }
    }
}

#[test]
fn verify_detects_a_restart() {
    for mut target in TestServer::all() {
        let one = target.blocking_client();
        let guard = one.lock("a").lease(LONG).acquire().expect("free");
        target.server.restart();
        let error = loop {
            // The first question may find the connection closed.
            let error = guard.verify().expect_err("lost");
            if error.kind() == ErrorKind::Lost {
                break error;
            }
        };
        lost(&error, LossReason::ServerRestarted);
        assert_eq!(guard.lost(), LossReason::ServerRestarted);
    }
}

#[test]
fn silent_server_leaves_lock_unjudged() {
    for target in &TestServer::all() {
        let builder = target.settings(Client::builder());
        let one = builder.operation_timeout(millis(300)).build();
        let one = one.expect("the server is there");
        let guard = one.lock("a").lease(LONG).acquire().expect("free");
        target.server.stop_signal();
        let error = guard.verify().expect_err("nobody answers");
        target.server.continue_signal();
        assert!(error.is_unknown() || error.is_unavailable(), "{error}");
        assert!(guard.is_valid());
        guard.verify().expect("still ours");
    }
}

#[test]
fn renewal_restores_the_whole_lease() {
    let targets = TestServer::all();
    let mut held = Vec::new();
    for target in &targets {
        let one = target.blocking_client();
        for lock in [one.lock("a"), one.lock("lean").without_record()] {
            held.push(lock.lease(LEASE).acquire().expect("free"));
        }
    }
    thread::sleep(millis(1000));
    for guard in &held {
        // The end that is certain, not what remains until then, which the keeper may have renewed by now.
        let end = Instant::now() + guard.remaining();
        let renewed = guard.renew().expect("ours");
        assert!(Instant::now() + renewed > end && renewed <= LEASE);
        assert!(guard.remaining() <= renewed);
    }
    for guard in held {
        let outcome = guard.release().expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
    }
}

#[test]
fn concurrent_renewals_all_succeed() {
    for target in &TestServer::all() {
        let one = target.blocking_client();
        let guard = one.lock("a").lease(LEASE).acquire().expect("free");
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| assert!(!guard.renew().expect("ours").is_zero()));
            }
        });
    }
}

#[test]
fn unanswered_renewal_is_no_loss() {
    for target in &TestServer::all() {
        let builder = target.settings(Client::builder());
        let one = builder.operation_timeout(millis(300)).build();
        let one = one.expect("the server is there");
        let guard = one.lock("a").lease(LONG).acquire().expect("free");
        target.server.stop_signal();
        let error = guard.renew().expect_err("nobody answers");
        target.server.continue_signal();
        assert!(error.is_unknown() || error.is_unavailable(), "{error}");
        assert!(error.server().is_some() && error.to_string().contains("`a`"));
        assert!(guard.is_valid());
        // What became of the other one is not known; this one finds out.
        guard.renew().expect("ours");
        let outcome = guard.release().expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
    }
}

#[test]
fn renewal_detects_a_loss() {
    for target in &TestServer::all() {
        let one = target.blocking_client();
        let guard = one.lock("a").lease(LONG).acquire().expect("free");
        target.delete(guard.key());
        lost(&guard.renew().expect_err("lost"), LossReason::Missing);
        assert_eq!(guard.lost(), LossReason::Missing);
        lost(&guard.renew().expect_err("lost"), LossReason::Missing);
        drop(guard);
        let guard = one.lock("a").lease(LONG).acquire().expect("free");
        assert!(one.shutdown(LONG));
        lost(&guard.renew().expect_err("lost"), LossReason::Released);
    }
}

#[test]
fn run_finishes_under_kept_lock() {
    for target in &TestServer::all() {
        let one = target.blocking_client();
        let guard = one.lock("a").lease(LONG).acquire().expect("free");
        let token = guard.run(|held| {
            held.ensure(millis(1)).expect("ours");
            held.fencing_token()
        });
        assert_eq!(token.expect("it stays ours"), guard.fencing_token());
        let outcome = guard.release().expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
    }
}

#[test]
fn lost_lock_stops_and_refuses_work() {
    for target in &TestServer::all() {
        let one = target.blocking_client();
        let guard = one.lock("a").lease(LEASE).acquire().expect("free");
        let mut steps = 0;
        let ended = guard.run(|held| {
            while held.ensure(millis(1)).is_ok() {
                steps += 1;
                target.delete(held.key());
                held.verify().expect_err("it is gone");
            }
        });
        let error = ended.expect_err("it is gone");
        lost(&error, LossReason::Missing);
        assert_eq!(error.loss_reason(), Some(LossReason::Missing));
        assert_eq!(steps, 1);
        let error = guard.run(|_| panic!("there is no lock to work under"));
        lost(&error.expect_err("it is gone"), LossReason::Missing);
    }
}
