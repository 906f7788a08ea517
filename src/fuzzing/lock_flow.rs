//! The lock operations against a server that sends arbitrary replies.

use super::simulated_server::{BREATHLESS, SimulatedServer, TestKeys, birth};
use crate::proto::{
    Acquire, AcquireOutcome, AcquireRequest, Action, FlightError, Grant, Inspect, Instant, Lease,
    Nonce, Operation, OwnerId, Release, ReleaseStatus, Renew, RenewOutcome, SampleClock,
    ServerInstance, ServerState, WaitPolicy,
};
use crate::wire::{self, Replies, Reply};
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

/// More flights and pauses than any operation may need after its wait limit.
const OVERTIME: usize = 60;

/// Never panics, ends, and never claims what the server did not say: a lock is held only when our
/// record was read back, until a lease after it was first asked for at the latest, and on a server
/// that remembers for long enough.
pub fn lock_flow(data: &[u8]) {
    let mut world = SimulatedServer::new(data);
    let Some(mut view) = world.greet() else {
        return;
    };
    let names = TestKeys::new();
    let lease = world.lease();
    let memory = world.input.flip().then(|| world.lease());
    let patience = match world.input.below(3) {
        0 => WaitPolicy::Try,
        1 => WaitPolicy::Until(
            world
                .now
                .after(Duration::from_millis(u64::from(world.input.byte()) * 50)),
        ),
        _ => WaitPolicy::Forever,
    };
    let lean = world.input.flip();
    let request = AcquireRequest {
        namespace: &names.namespace,
        keys: &names.keys,
        owner: &names.owner,
        lease,
        fencing: world.input.flip(),
        report_holder: true,
        without_record: lean,
        min_memory: memory,
        wait: patience,
        retry_timeout: Duration::from_millis(u64::from(world.input.byte()) * 20),
    };
    // `Try` and `Forever` have no deadline: the limit for an unreachable server starts anew with
    // each reply.
    let patience_ends = match patience {
        WaitPolicy::Until(end) => Some(end),
        WaitPolicy::Try | WaitPolicy::Forever => None,
    };
    let first = Nonce::from_random([0xab; 16]);
    let mut acquire = Acquire::new(request, first);
    let acquired = world.run(&mut acquire, &mut view, patience_ends);
    let leftover = acquire.orphan();
    let give_up = world
        .now
        .after(Duration::from_millis(u64::from(world.input.byte()) * 10));
    match acquired {
        Some(AcquireOutcome::Granted(grant)) => {
            world.judge_grant(&grant, lease, memory);
            assert!(leftover.is_none(), "what is granted is not left over");
            let mut cas = grant.cas;
            for _ in 0..world.input.below(3) {
                let mut renew = Renew::new(&names.namespace, &names.keys, &grant, lease, cas);
                let renewed = world.run(&mut renew, &mut view, None);
                if let Some(RenewOutcome::Renewed {
                    cas: now,
                    sent,
                    valid_until,
                    ..
                }) = renewed
                {
                    assert!(
                        SimulatedServer::read_back(&world.answer, grant.owner_id),
                        "renewed by no item of ours"
                    );
                    assert!(valid_until <= sent.after(lease.duration()));
                    assert_eq!(
                        sent, world.last_sent,
                        "a lease that counts from another instant"
                    );
                    assert!(
                        view.is_instance(grant.instance),
                        "renewed on another server"
                    );
                    cas = now;
                }
            }
            let mut release = Release::new(&names.keys, &grant, cas, give_up);
            world.release(&mut release, &mut view, &grant.instance);
        }
        _ => {
            if let Some(leftover) = leftover {
                let mut release = Release::for_orphan(&names.keys, &leftover, give_up);
                world.release(&mut release, &mut view, &leftover.instance);
            }
        }
    }
    world.run(&mut Inspect::new(&names.keys), &mut view, None);
    world.run(
        &mut SampleClock::new(&names.namespace, lease),
        &mut view,
        None,
    );
}

impl SimulatedServer<'_> {
    /// Runs an operation to its end; `None` when it gave up.
    fn run<O: Operation>(
        &mut self,
        operation: &mut O,
        view: &mut ServerState,
        patience_ends: Option<Instant>,
    ) -> Option<O::Outcome> {
        let mut step = Action::Transmit;
        let mut breath = 0;
        let mut late = 0;
        for trip in 0.. {
            // A story without end is one of a patience without end.
            if trip > 400 && patience_ends.is_none() {
                return None;
            }
            if patience_ends.is_some_and(|end| self.now > end) {
                late += 1;
                assert!(
                    late < OVERTIME,
                    "{late} flights after the end of all patience"
                );
            }
            // Nor may replies prolong a limited wait for ever.
            if trip > 4000 {
                return None;
            }
            match step {
                Action::Done(outcome) => return Some(outcome),
                Action::Fail { .. } => return None,
                Action::Sleep { until, .. } => {
                    breath = 0;
                    self.now = self.now.max(until);
                    self.pass();
                }
                Action::Transmit => {
                    breath += 1;
                    assert!(breath < BREATHLESS, "{breath} flights without a pause");
                }
            }
            if self.input.below(32) == 0 {
                // Another server, or the same one anew.
                let fresh = self.view();
                view.update(fresh);
            }
            let mut flight = wire::Flight::new();
            let now = self.unix();
            if let Err(outcome) = operation.poll_transmit(view, now, &mut flight) {
                return Some(outcome);
            }
            assert!(!flight.is_empty() && flight.is_answerable());
            if self.input.below(24) == 0 {
                self.pass();
                let now = self.unix();
                step = operation.handle_failure(FlightError::NotSent, now);
                continue;
            }
            let answered = self.exchange(&flight);
            if self.now.since(now.monotonic) >= Duration::from_millis(100) {
                // A slow server is a pause in itself, if not one that lets a short lease be held.
                breath = 0;
            }
            let answer = self.answer.clone();
            let interpreted = answered.map(|length| {
                let mut replies = Replies::new(&answer[..length]);
                operation.handle_replies(view, &mut replies, now.monotonic, self.now)
            });
            step = match interpreted {
                Some(Ok(step)) => {
                    self.lean.1 = self.lean.0.take();
                    step
                }
                Some(Err(_)) | None => {
                    let now = self.unix();
                    operation.handle_failure(FlightError::NoReply, now)
                }
            };
        }
        None
    }

    /// Returns whether a reply contains the record with this client's nonce as a value, or one of
    /// its tokens.
    fn read_back(answer: &[u8], proof: OwnerId) -> bool {
        let mut replies = Replies::new(answer);
        let mut replies = core::iter::from_fn(|| replies.next_reply().ok());
        let start = match proof {
            OwnerId::Nonce(nonce) => format!("m1 {nonce:x} "),
            OwnerId::Cas(token) => {
                return replies.any(|reply| match reply {
                    Reply::Meta(meta) => meta.flags.cas().is_some_and(|cas| token.matches(cas)),
                    _ => false,
                });
            }
        };
        replies.any(|reply| match reply {
            Reply::Meta(meta) => meta.data.starts_with(start.as_bytes()),
            Reply::Value(value) => value.data.starts_with(start.as_bytes()),
            _ => false,
        })
    }

    fn judge_grant(&self, grant: &Grant, lease: Lease, memory: Option<Lease>) {
        assert!(
            Self::read_back(&self.attempted, grant.owner_id),
            "granted by no item of ours"
        );
        let name = match grant.owner_id {
            OwnerId::Nonce(nonce) => format!("{nonce:x}"),
            OwnerId::Cas(_) => format!("{}", grant.cas),
        };
        let attempt = self
            .attempts
            .iter()
            .find(|attempt| attempt.0 == name.as_bytes());
        let first = attempt.expect("what is granted was asked for").1;
        assert!(
            grant.sent_at <= first,
            "the lease counts from the first time it was asked for"
        );
        assert!(grant.valid_until <= first.after(lease.duration()));
        assert!(self.now < grant.valid_until, "granted when it was over");
        assert!(grant.token.is_none_or(|token| i64::try_from(token).is_ok()));
        assert_ne!(grant.cas, 0);
        let record = matches!(grant.owner_id, OwnerId::Nonce(_));
        if let Some(memory) = memory.filter(|_| record) {
            let second = self.second_told().expect("the sentinel was read");
            let from = self.remembers_from.expect("the sentinel was read");
            let age = second - i128::from(from);
            let needed = memory.max(lease).duration().as_secs_f64();
            #[allow(clippy::cast_precision_loss, reason = "it is compared with a margin")]
            let age = age as f64;
            assert!(
                age >= needed,
                "granted on a memory of {age} s, not {needed} s"
            );
        }
    }

    /// Returns the latest second that the server has sent together with the record.
    fn second_told(&self) -> Option<i128> {
        let mut replies = Replies::new(&self.attempted);
        let all: Vec<Reply<'_>> = core::iter::from_fn(|| replies.next_reply().ok()).collect();
        let seconds = all.iter().filter_map(|reply| match reply {
            Reply::Meta(meta) if birth(meta.data).is_some() => match meta.flags.ttl() {
                Some(wire::TimeLeft::Seconds(left)) => Some(2_147_483_647 - i128::from(left)),
                _ => None,
            },
            Reply::Stat {
                name: b"time",
                value,
            } => core::str::from_utf8(value).ok()?.parse().ok(),
            _ => None,
        });
        seconds.max()
    }

    fn release(
        &mut self,
        release: &mut Release<'_>,
        view: &mut ServerState,
        granted: &ServerInstance,
    ) {
        self.removing = false;
        let released = self.run(release, view, None);
        if released == Some(ReleaseStatus::Released) {
            assert!(self.removing, "released without a request for it");
            // By the same process at least: after the removal it may look for late requests on an
            // instance that only looks like the same one.
            let alike = view.instance.is_same_process(granted);
            assert!(alike, "released on another server");
        }
    }
}
