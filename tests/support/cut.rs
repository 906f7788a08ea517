//! The ways in which a caller goes before its call is over.

use super::rng::Rng;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Never,
    /// `tokio::time::timeout`.
    Timeout(Duration),
    /// The loser of a `select!`.
    Race(Duration),
    /// Dropped behind so many polls.
    AtPoll(u64),
    /// Dropped when it is woken behind so many polls, instead of being polled.
    AtWake(u64),
    /// Runs in a task of its own that is aborted.
    Abort(Duration),
}

impl Cut {
    pub fn draw(dice: &mut Rng) -> Self {
        let length = match dice.below(10) {
            0..6 => dice.micros(0..500),
            6..9 => dice.millis(0..20),
            _ => dice.millis(0..1500),
        };
        match dice.below(5) {
            0 => Self::Timeout(length),
            1 => Self::Race(length),
            2 => Self::AtPoll(dice.below(9)),
            3 => Self::AtWake(dice.below(9)),
            _ => Self::Abort(length),
        }
    }

    /// The output of the future, if it may complete.
    pub async fn apply<F>(self, future: F) -> Option<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match self {
            Self::Never => Some(future.await),
            Self::Timeout(limit) => timeout(limit, future).await.ok(),
            Self::Race(limit) => tokio::select! {
                output = future => Some(output),
                () = sleep(limit) => None,
            },
            Self::AtPoll(most) => {
                let mut future = pin!(future);
                let mut polls = 0;
                poll_fn(|cx| {
                    if polls < most {
                        polls += 1;
                        if let Poll::Ready(output) = future.as_mut().poll(cx) {
                            return Poll::Ready(Some(output));
                        }
                    }
                    if polls == most {
                        return Poll::Ready(None);
                    }
                    Poll::Pending
                })
                .await
            }
            Self::AtWake(most) => {
                let mut future = pin!(future);
                let mut polls = 0;
                poll_fn(|cx| {
                    if polls > most {
                        return Poll::Ready(None);
                    }
                    polls += 1;
                    future.as_mut().poll(cx).map(Some)
                })
                .await
            }
            Self::Abort(limit) => {
                let mut task = Aborting(tokio::spawn(future));
                if let Ok(joined) = timeout(limit, &mut task.0).await {
                    return Some(joined.expect("nothing panics"));
                }
                task.0.abort();
                match (&mut task.0).await {
                    Ok(output) => Some(output),
                    Err(error) if error.is_cancelled() => None,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

/// A waiter for a task may be dropped itself.
struct Aborting<T>(JoinHandle<T>);

impl<T> Drop for Aborting<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
