//! A forked process cannot use the client of its parent, by either API.
#![cfg(all(unix, feature = "tokio", feature = "blocking"))]

mod support;

use core::panic::AssertUnwindSafe;
use core::time::Duration;
use either::{APIS, Client, LONG, Settings, until};
use fork::{Fork, fork, waitpid_nohang};
use memlatch::{ErrorKind, LockError, LossReason, ReleaseOutcome, blocking};
use std::panic::catch_unwind;
use support::{either, memcached};

/// The default lease. The keeper renews it.
const LEASE: Duration = Duration::from_secs(10);

/// Runs `work` in a forked process, which must come to its end without a panic.
#[track_caller]
#[allow(
    clippy::exit,
    reason = "the other threads of the test are not in this process"
)]
fn in_a_fork(work: impl FnOnce()) {
    match fork().expect("a process") {
        Fork::Child => {
            // Should it hang, it does not stay behind.
            std::thread::spawn(|| {
                std::thread::sleep(LONG / 2);
                std::process::exit(2);
            });
            let done = catch_unwind(AssertUnwindSafe(work)).is_ok();
            std::process::exit(i32::from(!done));
        }
        Fork::Parent(child) => {
            let mut status = None;
            until("the forked process ends", || {
                status = waitpid_nohang(child).expect("a child");
                status.is_some()
            });
            assert_eq!(status, Some(0));
        }
    }
}

#[track_caller]
fn refused<T>(result: Result<T, LockError>, kind: ErrorKind) {
    let error = result.err().expect("it is another process's client");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains("was forked from"), "{error}");
}

#[test]
fn forked_process_has_no_locks() {
    for binary in memcached::required() {
        for api in APIS {
            let server = binary.start(&[]);
            let settings = Settings::new(server.url());
            let client = Client::new(api, &settings).expect("a server");
            let guard = client.lock("a").lease(LEASE).acquire().expect("free");
            let kept = client.lock("b").lease(LEASE).acquire().expect("free");
            let mut guards = Some((guard, kept));
            in_a_fork(|| {
                // Of the copies in this process.
                let (guard, kept) = guards.take().expect("they are here, too");
                let (closed, lost) = (ErrorKind::Closed, ErrorKind::Lost);
                refused(client.lock("c").lease(LEASE).try_acquire(), closed);
                refused(client.lock("a").lease(LEASE).acquire_timeout(LONG), closed);
                refused(guard.renew(), lost);
                refused(guard.verify(), lost);
                assert_eq!(guard.lost(), LossReason::Forked);
                let reason = LossReason::Forked;
                let released = guard.release().expect("nothing to be sent");
                assert_eq!(released, ReleaseOutcome::AlreadyLost { reason });
                drop(kept);
                // A client of its own.
                let builder = blocking::Client::builder().server(server.url());
                let own = builder.restart_guard(false).build().expect("a server");
                for name in ["a", "b"] {
                    assert!(own.lock(name).try_acquire().expect("answered").is_none());
                }
                let guard = own.lock("c").acquire().expect("free");
                let released = guard.release().expect("answered");
                assert_eq!(released, ReleaseOutcome::Released);
            });
            let (guard, kept) = guards.expect("they never left");
            for guard in [guard, kept] {
                guard.verify().expect("still held");
                let released = guard.release().expect("answered");
                assert_eq!(released, ReleaseOutcome::Released);
            }
        }
    }
}
