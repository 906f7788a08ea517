//! The renewer: one thread per client that renews the held locks and undoes abandoned acquisitions.

use super::pool::Connections;
use crate::engine::client::ClientInner;
use crate::engine::exchange::{PauseMode, run as wait_for};
use crate::engine::{CleanupJob, ClockSync, SchedulerAction, clock};
use crate::proto::Instant;
use std::collections::VecDeque;

type Client = ClientInner<Connections>;

/// Does the work of the scheduler until the client is dropped and nothing remains to be released.
pub(super) fn run(client: &Client) {
    let mut jobs = VecDeque::new();
    let mut clock_sync = ClockSync::new(clock::monotonic());
    let (scheduler, wake) = (&client.node.scheduler, &client.node.wake);
    loop {
        let seen = wake.generation();
        let now = clock::monotonic();
        let mut until = match scheduler.next_action(now) {
            SchedulerAction::Exit => return,
            SchedulerAction::Renew(batch) => {
                wait_for(client.renew(&batch));
                continue;
            }
            SchedulerAction::Job(job) => {
                jobs.push_back(job);
                now
            }
            SchedulerAction::Sleep { until } => until,
        };
        if let Some(job) = jobs.pop_front() {
            let mut pause = |until| renew_until(client, &mut jobs, until);
            wait_for(client.clean_up(&job, &mut PauseMode::Work(&mut pause)));
            continue;
        }
        if let Some(due) = clock_sync.due(&client.node, !client.queues.are_empty(), now) {
            if due <= now {
                clock_sync.begin(now);
                wait_for(client.sync_clock());
                continue;
            }
            until = until.min(due);
        }
        wake.block(seen, Some(until));
    }
}

/// Spends the pause of a job on the renewals that become due. A late renewal loses its lock, a late
/// job is only late. Other jobs are kept in `jobs`.
fn renew_until(client: &Client, jobs: &mut VecDeque<CleanupJob>, until: Instant) {
    let (scheduler, wake) = (&client.node.scheduler, &client.node.wake);
    loop {
        let seen = wake.generation();
        let now = clock::monotonic();
        if now >= until {
            return;
        }
        match scheduler.next_action(now) {
            SchedulerAction::Renew(batch) => wait_for(client.renew(&batch)),
            SchedulerAction::Job(job) => jobs.push_back(job),
            SchedulerAction::Sleep { until: due } => wake.block(seen, Some(until.min(due))),
            // The thread does not exit before the job is done.
            SchedulerAction::Exit => return,
        }
    }
}
