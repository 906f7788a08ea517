//! The resource's side: threads that share a guard, or a fenced value.

use memlatch::fencing::{Fenced, FencingGuard};
use std::sync::Mutex;
use std::thread;

const TOKENS: u64 = 2_000;

#[test]
fn shared_guard_never_passes_older_tokens() {
    let guard = FencingGuard::new();
    thread::scope(|scope| {
        for from in 1..=4 {
            let guard = &guard;
            scope.spawn(move || {
                for token in (from..=TOKENS).step_by(4) {
                    let before = guard.highest();
                    match guard.check(token) {
                        // What was seen in front of the check counts in it.
                        Ok(()) => assert!(token >= before),
                        Err(stale) => assert!(stale.token < stale.highest),
                    }
                    assert!(guard.highest() >= token.max(before));
                }
            });
        }
    });
    assert_eq!(guard.highest(), TOKENS);
}

#[test]
fn shared_fenced_value_keeps_token_order() {
    let fenced = Mutex::new(Fenced::new(Vec::new()));
    thread::scope(|scope| {
        for from in 1..=4 {
            let fenced = &fenced;
            scope.spawn(move || {
                for token in (from..=TOKENS).step_by(4) {
                    let mut fenced = fenced.lock().expect("no thread has panicked");
                    match fenced.access(token) {
                        Ok(written) => written.push(token),
                        Err(stale) => assert!(fenced.highest() >= stale.highest),
                    }
                }
            });
        }
    });
    let fenced = fenced.into_inner().expect("no thread has panicked");
    let (written, highest) = fenced.into_parts();
    assert_eq!(highest, TOKENS);
    assert_eq!(written.last(), Some(&TOKENS));
    assert!(written.is_sorted(), "{written:?}");
}
