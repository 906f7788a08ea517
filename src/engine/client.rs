//! A client over a transport: one server, the wait queues, and the operations that run to their
//! end.

use super::clock;
use super::config::Config;
use super::connect_error::ConnectError;
use super::error::{Cause, LockError};
use super::exchange::{Ask, ExchangeOutcome, FlightHandler, FlightResult, PauseMode, Timeout};
use super::holder::Holder;
use super::lock_state::LockState;
use super::node::{Clear, Node};
use super::notify::Notify;
use super::wait_queue::WaitQueues;
use crate::net::NetError;
use crate::proto::{
    Action, FlightError, Inspect, Instant, ListLocks, LockKeys, Now, Operation, SampleClock,
    ServerError, ServerState,
};
use core::fmt;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};
use std::vec::Vec;

/// The transport of an API: the connections to one server, and the way a caller waits. The only
/// things that differ between the APIs.
///
/// The methods of the blocking API block and are ready at their first poll, so
/// [`run`](super::exchange::run) gets the output of a flow by polling it.
pub(crate) trait Transport: Clear + fmt::Debug + Send + Sync + Sized + 'static {
    /// Waits block the thread. If `true`, a lock whose guard is dropped is released in place,
    /// otherwise by the renewer.
    const BLOCKS: bool;

    /// A connection that carries one flight at a time, or several.
    type Connection;

    /// Looks up the addresses of the server; none for a Unix socket. A transport whose lookups
    /// block has no limit for them.
    fn resolve(
        config: &Config,
        limit: Duration,
    ) -> impl Future<Output = Result<Vec<SocketAddr>, NetError>>;

    /// Connects to the first of these addresses that can be reached.
    fn dial(
        config: &Config,
        addresses: &[SocketAddr],
        limit: Duration,
    ) -> impl Future<Output = Result<Self::Connection, NetError>>;

    /// Makes one exchange on a connection that nothing else uses.
    fn ask<A: Ask>(
        connection: &mut Self::Connection,
        limit: Duration,
        ask: &mut A,
        now: Now,
    ) -> impl Future<Output = Result<A::Output, NetError>>;

    /// Sends a flight and passes the replies to `handler`, within `limit` and by the end of
    /// `timeout`. `keys` are those of the lock concerned: the flights of one lock keep their order.
    ///
    /// # Cancel safety
    /// Dropping the future removes a flight of which nothing has been sent.
    fn exchange<H: FlightHandler>(
        client: &ClientInner<Self>,
        handler: &mut H,
        keys: Option<&LockKeys>,
        now: Now,
        timeout: Timeout,
        limit: Duration,
    ) -> impl Future<Output = FlightResult<H>>;

    /// Waits until `notify` was notified after `seen`, or until `until`, or less: the caller looks
    /// again.
    fn wait(notify: &Notify, seen: u64, until: Option<Instant>) -> impl Future<Output = ()>;

    /// Waits until this instant.
    fn sleep(until: Instant) -> impl Future<Output = ()>;

    /// Reads the list of all items of the server, on a connection of its own.
    fn dump(
        client: &ClientInner<Self>,
        search: &mut ListLocks<'_>,
    ) -> impl Future<Output = Result<(), LockError>>;

    /// Starts the renewer, once for each client, before its first lock.
    fn start_renewer(client: &Arc<ClientInner<Self>>) -> Result<(), LockError>;

    /// Sends the release of a lock that was ended, and waits for no reply. Returns whether it will
    /// be sent.
    fn release_quietly(client: &Arc<ClientInner<Self>>, lock: &Arc<LockState>, now: Now) -> bool;

    /// Sends the quiet releases that were not sent yet; if the API reads their replies itself,
    /// waits for those until `until`.
    fn settle_quiet(client: &ClientInner<Self>, until: Instant);
}

/// State that the handles of a client, its guards and its renewer share.
#[derive(Debug)]
pub(crate) struct ClientInner<T> {
    pub(crate) node: Node<T>,
    /// Waiters of this process, by lock.
    pub(crate) queues: WaitQueues,
    /// Notified when the renewer has finished some work.
    pub(crate) done: Notify,
    /// Notified at the shutdown.
    pub(crate) closed: Notify,
}

/// The handles of a client: after the last one is dropped, the renewer ends.
#[derive(Debug)]
pub(crate) struct ClientHandle<T: Transport> {
    pub(crate) inner: Arc<ClientInner<T>>,
    has_renewer: AtomicBool,
    starting: Mutex<()>,
}

impl<T: Transport> ClientHandle<T> {
    /// A handle whose renewer starts before the first lock.
    pub(crate) fn new(inner: Arc<ClientInner<T>>) -> Self {
        Self {
            inner,
            has_renewer: AtomicBool::new(false),
            starting: Mutex::new(()),
        }
    }

    /// Starts the renewer unless it was started. A program that acquires no lock has no thread for
    /// it, and a program that cannot acquire any has no code for it.
    pub(crate) fn ensure_renewer(&self) -> Result<(), LockError> {
        if self.has_renewer.load(Ordering::Acquire) {
            return Ok(());
        }
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.has_renewer.load(Ordering::Acquire) {
            T::start_renewer(&self.inner)?;
            self.has_renewer.store(true, Ordering::Release);
        }
        Ok(())
    }
}

impl<T: Transport> Drop for ClientHandle<T> {
    fn drop(&mut self) {
        self.inner.node.scheduler.detach_client();
        self.inner.node.wake.notify();
    }
}

impl<T: Transport> ClientInner<T> {
    pub(crate) fn new(config: Config, transport: T) -> Result<Self, LockError> {
        Ok(Self {
            node: Node::new(config, transport)?,
            queues: WaitQueues::new(),
            done: Notify::new(),
            closed: Notify::new(),
        })
    }

    /// Runs an operation to its end, from `now` on. `keys` are those of the lock concerned.
    ///
    /// # Cancel safety
    /// Dropping the future removes requests of which nothing has been sent. The caller must handle
    /// what the operation may have stored at the server.
    pub(crate) async fn drive<O: Operation>(
        &self,
        operation: &mut O,
        keys: Option<&LockKeys>,
        now: Now,
        timeout: Timeout,
    ) -> Result<O::Outcome, LockError> {
        self.drive_with(operation, keys, now, timeout, &mut PauseMode::Sleep)
            .await
    }

    /// Does the same; `pause` says how the pauses are spent.
    pub(crate) async fn drive_with<O: Operation>(
        &self,
        operation: &mut O,
        keys: Option<&LockKeys>,
        mut now: Now,
        mut timeout: Timeout,
        pause: &mut PauseMode<'_>,
    ) -> Result<O::Outcome, LockError> {
        let mut failure = None;
        loop {
            match self
                .step(operation, keys, now, timeout, &mut failure)
                .await?
            {
                Action::Transmit => {}
                Action::Sleep { until, why } => {
                    self.node.report_pause(why, until.since(clock::monotonic()));
                    self.pause(pause, until).await?;
                    timeout.resume(clock::monotonic());
                }
                Action::Done(outcome) => return Ok(outcome),
                Action::Fail { unknown } => return Err(self.node.no_reply_error(unknown, failure)),
            }
            now = clock::now();
        }
    }

    /// Sends the next flight of an operation and applies its replies. If there are none, stores the
    /// reason in `failure`.
    ///
    /// # Cancel safety
    /// As for [`drive`](Self::drive).
    pub(crate) async fn step<O: Operation>(
        &self,
        operation: &mut O,
        keys: Option<&LockKeys>,
        now: Now,
        timeout: Timeout,
        failure: &mut Option<NetError>,
    ) -> Result<Action<O::Outcome>, LockError> {
        self.node.check_process()?;
        let limit = self.node.config.operation_timeout;
        match T::exchange(self, operation, keys, now, timeout, limit).await {
            Ok(ExchangeOutcome::Replied(action)) => Ok(action),
            Ok(ExchangeOutcome::Skipped(outcome)) => Ok(Action::Done(outcome)),
            // The second in which a delayed flush takes effect.
            Err(ConnectError::Rejected(ServerError::DropsItems)) => {
                Ok(operation.handle_failure(FlightError::NotSent, clock::now()))
            }
            Err(ConnectError::Rejected(error)) => Err(self.node.error(Cause::Server(error))),
            Err(ConnectError::Net(error)) => {
                self.node.telemetry.request_failed(&error);
                let how = if error.sent {
                    FlightError::NoReply
                } else {
                    FlightError::NotSent
                };
                *failure = Some(error);
                Ok(operation.handle_failure(how, clock::now()))
            }
        }
    }

    async fn pause(&self, how: &mut PauseMode<'_>, until: Instant) -> Result<(), LockError> {
        match how {
            PauseMode::Sleep => T::sleep(until).await,
            PauseMode::SleepUnlessClosed => self.sleep_unless_closed(until).await?,
            PauseMode::Work(work) => work(until),
        }
        Ok(())
    }

    /// Waits until this instant, unless the client is shut down.
    async fn sleep_unless_closed(&self, until: Instant) -> Result<(), LockError> {
        loop {
            let seen = self.closed.generation();
            if self.node.scheduler.is_closed() {
                return Err(LockError::new(Cause::Closed));
            }
            if clock::monotonic() >= until {
                return Ok(());
            }
            T::wait(&self.closed, seen, Some(until)).await;
        }
    }

    /// Applies the result of a handshake: notifies the waiters of the locks that are lost by it.
    pub(crate) fn server_found(&self, server: ServerState) {
        for lock in self.node.update_server(server) {
            self.notify_free(&lock);
            lock.changed.notify();
        }
    }

    /// Records that no guard of this process holds this lock any more: the first waiter may
    /// contend.
    pub(crate) fn notify_free(&self, lock: &LockState) {
        self.queues.notify_free(&lock.keys);
    }

    pub(crate) async fn holder(&self, name: &str) -> Result<Option<Holder>, LockError> {
        let about = |error: LockError| error.with_name(name);
        let keys = self.node.keys(name)?;
        let mut inspect = Inspect::new(&keys);
        let inspected = self.drive(&mut inspect, Some(&keys), clock::now(), Timeout::Unlimited);
        let inspected = inspected.await.map_err(about)?;
        self.node.inspected(inspected).map_err(about)
    }

    /// Releases all locks, and waits for that up to `limit`. Returns whether nothing remains.
    pub(crate) async fn shutdown(&self, limit: Duration) -> bool {
        let until = clock::monotonic().after(limit);
        for lock in self.node.scheduler.close() {
            lock.changed.notify();
        }
        self.notify_closed();
        T::settle_quiet(self, until);
        let drained = loop {
            let seen = self.done.generation();
            if self.node.scheduler.is_idle() {
                break true;
            }
            if clock::monotonic() >= until {
                break false;
            }
            T::wait(&self.done, seen, Some(until)).await;
        };
        self.node.connections.clear();
        drained
    }

    /// Wakes all waiters, after the scheduler was closed.
    pub(crate) fn notify_closed(&self) {
        self.closed.notify();
        self.queues.notify_all();
        self.node.wake.notify();
    }

    /// Reads the server's clock, and the longest lease.
    pub(crate) async fn sync_clock(&self) {
        let config = &self.node.config;
        let mut sample = SampleClock::new(&config.namespace, config.max_lease);
        let sampled = self.drive(&mut sample, None, clock::now(), Timeout::Unlimited);
        if let Ok(Ok(())) = sampled.await {
            self.node.correct_deadlines(clock::monotonic());
            self.node.report_longest_lease();
        }
    }
}
