//! Waiting for a lock includes waiting for its server.

use super::failure::{Failure, code};
use super::options::GlobalOptions;
use super::stderr::Verbosity;
use super::{server, startup};
use core::time::Duration;
use memlatch::{Client, ClientBuilder, Lock, LockError, LockGuard};
use std::time::Instant;
use tokio::time::{sleep, timeout};

/// Pause between two attempts to reach the server.
const PAUSE: Duration = Duration::from_millis(250);

/// The server is away for so long when it is first said. The next time is twice as far away, and so
/// on.
const FIRST_REMARK: Duration = Duration::from_secs(1);

/// The longest time between two remarks.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// Limits how long a caller waits for a lock and for its server.
#[derive(Debug)]
pub(super) struct WaitLimit {
    began: Instant,
    limit: Option<Duration>,
    voice: Verbosity,
    /// Since when the server has been away, and when that is said next.
    away: Option<(Instant, Remarks)>,
}

impl WaitLimit {
    /// Without a limit, waits for ever. A limit of zero means one attempt.
    pub(super) fn new(limit: Option<Duration>, voice: Verbosity) -> Self {
        Self {
            began: Instant::now(),
            limit,
            voice,
            away: None,
        }
    }

    /// As the options `--no-wait` and `--wait` have it.
    pub(super) fn of(no_wait: bool, wait: Option<Duration>, voice: Verbosity) -> Self {
        let limit = if no_wait { Some(Duration::ZERO) } else { wait };
        Self::new(limit, voice)
    }

    /// The rest of the limit.
    pub(super) fn left(&self) -> Option<Duration> {
        let limit = self.limit?;
        Some(limit.saturating_sub(self.began.elapsed()))
    }

    /// A client of the server that the options name, as soon as it can be reached.
    pub(super) async fn connect(
        &mut self,
        global: &GlobalOptions,
        adjust: impl Fn(ClientBuilder<Client>) -> ClientBuilder<Client>,
    ) -> Result<Client, Failure> {
        loop {
            let building = adjust(server::builder(global)?).build();
            let built = match self.left() {
                Some(left) if !left.is_zero() => match timeout(left, building).await {
                    Ok(built) => built,
                    Err(_) => return Err(self.over()),
                },
                _ => building.await,
            };
            match built {
                Ok(client) => {
                    if self.away.is_none() {
                        // A server that is there takes nothing from the time for the lock.
                        self.began = Instant::now();
                    }
                    self.reached();
                    return Ok(client);
                }
                Err(error) => self.bear(error).await?,
            }
        }
    }

    /// The lock, unless another holds it for too long.
    pub(super) async fn acquire(&mut self, lock: &Lock) -> Result<Option<LockGuard>, Failure> {
        loop {
            let attempt = match self.left() {
                None => lock.acquire().await.map(Some),
                Some(left) if left.is_zero() => lock.try_acquire().await,
                Some(left) => lock.acquire_timeout(left).await.map(Some),
            };
            match attempt {
                Ok(guard) => {
                    self.reached();
                    return Ok(guard);
                }
                Err(error) if error.is_timeout() => {
                    // The error names the holder.
                    self.voice.detail(&error.to_string());
                    return Ok(None);
                }
                Err(error) => self.bear(error).await?,
            }
        }
    }

    /// Waits before another attempt, or returns the error if there is to be none.
    pub(super) async fn bear(&mut self, error: LockError) -> Result<(), Failure> {
        if let Some(shortage) = error.io_error().filter(|cause| startup::is_shortage(cause)) {
            return Err(Failure::system("cannot connect", shortage));
        }
        let left = self.left().unwrap_or(Duration::MAX);
        if left.is_zero() || !error.is_transient() {
            return Err(error.into());
        }
        let now = Instant::now();
        let (since, remarks) = self.away.get_or_insert((now, Remarks(FIRST_REMARK)));
        if remarks.is_due(now.duration_since(*since)) {
            self.voice.note(&format!("{error}; trying again"));
        }
        sleep(PAUSE.min(left)).await;
        Ok(())
    }

    /// The server has answered.
    pub(super) fn reached(&mut self) {
        if let Some((_, remarks)) = self.away.take() {
            if remarks.0 > FIRST_REMARK {
                self.voice.note("the server answers again");
            }
        }
    }

    fn over(&self) -> Failure {
        Failure::new(
            code::UNAVAILABLE,
            format!(
                "the server does not answer within {:.1?}",
                self.limit.unwrap_or_default()
            ),
        )
    }
}

/// The time for which the server must be away before this is reported again.
#[derive(Debug)]
struct Remarks(Duration);

impl Remarks {
    fn is_due(&mut self, away: Duration) -> bool {
        let due = away >= self.0;
        if due {
            self.0 = away + away.clamp(FIRST_REMARK, LONGEST_SILENCE);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_remarks_become_rarer() {
        let mut remarks = Remarks(FIRST_REMARK);
        let seconds = (0..600).filter(|s| remarks.is_due(Duration::from_secs(*s)));
        let seconds: Vec<u64> = seconds.collect();
        assert_eq!(seconds[..8], [1, 2, 4, 8, 16, 32, 64, 124]);
        assert!(seconds.len() > 12, "{seconds:?}");
    }
}
