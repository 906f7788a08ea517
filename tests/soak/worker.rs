//! The tasks that want locks, hold them, ask about them, and go at any time.

use super::cut::Cut;
use super::ledger::{Holding, LEASE, Ledger, check_release};
use super::rng::Rng;
use core::future::Future;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use memlatch::{Client, Lock, LockError, LockGuard};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use tokio::time::sleep;

/// The order to all tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Go,
    /// Drop everything and wait.
    Pause,
    Leave,
}

/// The state of a player.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) book: Arc<Ledger>,
    pub(crate) client: Client,
    pub(crate) dice: Rng,
    pub(crate) orders: watch::Receiver<Order>,
    /// Number of tasks that wait for the order to go on.
    pub(crate) parked: Arc<AtomicUsize>,
}

impl Player {
    fn lock(&self, page: usize) -> Lock {
        let lock = self.client.lock(self.book.name(page));
        lock.lease(self.book.lease(page))
            .label(self.book.label(page))
    }

    /// Plays rounds until ordered to leave. A pause drops the round that is being played.
    async fn play<R>(mut self, round: impl Fn(Self) -> R)
    where
        R: Future<Output = Self> + Send,
    {
        let mut orders = self.orders.clone();
        loop {
            let order = *orders.borrow_and_update();
            match order {
                Order::Leave => return,
                Order::Pause => {
                    self.parked.fetch_add(1, Ordering::Relaxed);
                    let changed = orders.changed().await;
                    self.parked.fetch_sub(1, Ordering::Relaxed);
                    if changed.is_err() {
                        return;
                    }
                }
                Order::Go => {
                    // Where the round is dropped, so are the dice in it.
                    let seed = self.dice.next();
                    let player = Self {
                        book: Arc::clone(&self.book),
                        client: self.client.clone(),
                        dice: Rng::new(seed, 0),
                        orders: self.orders.clone(),
                        parked: Arc::clone(&self.parked),
                    };
                    tokio::select! {
                        _ = round(player) => {}
                        _ = orders.wait_for(|order| *order != Order::Go) => {
                            self.book.count("cut by a pause");
                        }
                    }
                }
            }
        }
    }

    /// A call that may be cut short, and is checked for its length if it is not.
    async fn call<F>(&self, what: &str, cut: Cut, limit: Duration, future: F) -> Option<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let began = Instant::now();
        let output = cut.apply(future).await;
        match (&output, cut) {
            (None, _) => {
                let how = format!("{cut:?}");
                let how = how.split('(').next().unwrap_or_default();
                self.book.count(format!("cut {what} {how}"));
            }
            (Some(_), Cut::Never) => self.book.took(what, began.elapsed().saturating_sub(limit)),
            (Some(_), _) => {}
        }
        output
    }

    /// Asks for the holder of a lock.
    async fn ask(&self, page: usize, cut: Cut) {
        let (client, name) = (self.client.clone(), self.book.name(page).to_owned());
        let asked = async move { client.holder(name).await };
        match self.call("holder", cut, Duration::ZERO, asked).await {
            Some(Ok(Some(holder))) => {
                self.book.check_holder(page, &holder);
                self.book.count("asked held");
            }
            Some(Ok(None)) => self.book.count("asked free"),
            Some(Err(error)) => self.book.check_error(page, &error),
            None => {}
        }
    }

    /// Tries to get a lock, in one of the ways there are.
    async fn want(&mut self, page: usize) -> Option<Holding> {
        let lock = self.lock(page);
        let cut = if self.dice.chance(60) {
            Cut::draw(&mut self.dice)
        } else {
            Cut::Never
        };
        let granted = match self.dice.below(3) {
            0 => {
                let tried = async move { lock.try_acquire().await };
                let tried = self.call("try", cut, Duration::ZERO, tried).await;
                tried.map(Result::transpose).unwrap_or_default()
            }
            1 => {
                let limit = self.dice.millis(0..300);
                let tried = async move { lock.acquire_timeout(limit).await };
                self.call("wait", cut, limit, tried).await
            }
            _ => {
                // No call waits for ever: some names are not free for seconds.
                let cut = match cut {
                    Cut::Never | Cut::AtPoll(_) | Cut::AtWake(_) if self.dice.chance(90) => {
                        Cut::Timeout(self.dice.millis(100..2000))
                    }
                    cut => cut,
                };
                let limit = Duration::from_secs(60);
                let tried = async move { lock.acquire().await };
                self.call("acquire", cut, limit, tried).await
            }
        };
        self.granted(page, granted?)
    }

    fn granted(&self, page: usize, granted: Result<LockGuard, LockError>) -> Option<Holding> {
        match granted {
            Ok(guard) => self.book.enter(page, guard),
            Err(error) => {
                self.book.check_error(page, &error);
                None
            }
        }
    }

    /// Holds a lock for a while, or until it is lost.
    async fn hold(&mut self, holding: &Holding) {
        let length = match self.dice.below(100) {
            0..70 => self.dice.micros(0..2000),
            70..94 => self.dice.millis(0..50),
            _ => self.dice.millis(200..5000),
        };
        tokio::select! {
            () = holding.lost() => {}
            () = sleep(length) => {}
        }
    }

    /// Gives a lock back, in one of the ways there are.
    async fn end(&mut self, holding: Holding) {
        let cut = match self.dice.below(4) {
            0 => {
                self.book.count("dropped");
                return drop(holding);
            }
            1 => Cut::draw(&mut self.dice),
            _ => Cut::Never,
        };
        let page = holding.page();
        let Some(guard) = holding.take() else {
            return;
        };
        let (left, began) = (guard.remaining(), Instant::now());
        let limit = Duration::from_secs(5);
        let released = async move { guard.release().await };
        if let Some(outcome) = self.call("release", cut, limit, released).await {
            check_release(&self.book, page, &outcome, left, began.elapsed());
        }
    }
}

/// Fights for any of the first `names` names.
pub(crate) async fn fight(player: Player, names: u64) {
    let round = move |mut player: Player| async move {
        let page = player.dice.below(names) as usize;
        if player.dice.chance(15) {
            let cut = if player.dice.chance(50) {
                Cut::draw(&mut player.dice)
            } else {
                Cut::Never
            };
            player.ask(page, cut).await;
        } else if let Some(holding) = player.want(page).await {
            player.hold(&holding).await;
            player.end(holding).await;
        }
        sleep(player.dice.millis(0..8)).await;
        player
    };
    player.play(round).await;
}

/// Holds one name for as long as it can be held, so that others know what to be answered.
pub(crate) async fn keep(player: Player, page: usize) {
    let round = move |player: Player| async move {
        let lock = player.lock(page);
        if let Some(holding) = player.granted(page, lock.acquire().await) {
            holding.lost().await;
        }
        player
    };
    player.play(round).await;
}

/// Asks about one of these names after the other, nearly all the time.
pub(crate) async fn inquire(player: Player, pages: core::ops::Range<usize>) {
    let round = move |mut player: Player| {
        let pages = pages.clone();
        async move {
            for page in pages {
                let cut = if player.dice.chance(10) {
                    Cut::draw(&mut player.dice)
                } else {
                    Cut::Never
                };
                player.ask(page, cut).await;
            }
            sleep(player.dice.micros(0..2000)).await;
            player
        }
    };
    player.play(round).await;
}

/// A lock that was left behind is free when its lease and five seconds are over.
pub(crate) const FREE_WITHIN: Duration = LEASE.saturating_add(Duration::from_secs(5));
