//! Moving a held lock between processes: the ticket of a guard, and the guard of a ticket.

use super::{Guard, Phase};
use crate::engine::client::{ClientHandle, Transport};
use crate::engine::clock;
use crate::engine::config_error::ConfigError;
use crate::engine::error::{Cause, LockError};
use crate::engine::events::HoldEnd;
use crate::engine::exchange::Timeout;
use crate::engine::lock_state::LockState;
use crate::engine::node::Node;
use crate::proto::{Grant, LockKeys, LockTicket, LossReason, Namespace, Renew, RenewOutcome};
use std::sync::Arc;

impl<T: Transport> Guard<T> {
    /// Ends the guard and keeps the lock, so that another process can attach it.
    pub(crate) fn detach(mut self) -> LockTicket {
        self.phase = Phase::Ended;
        let (lost, _) = self.end(clock::monotonic());
        self.lock.emit_end(HoldEnd::Detached);
        let client = self.client();
        client.notify_free(&self.lock);
        self.lock.ticket(&client.node.config.namespace, lost)
    }

    /// Makes a guard of a ticket, by a renewal.
    pub(crate) async fn attach(
        handle: &Arc<ClientHandle<T>>,
        ticket: &LockTicket,
    ) -> Result<Self, LockError> {
        let client = &handle.inner;
        let keys = client.node.check_ticket(ticket)?;
        handle.ensure_renewer()?;
        let now = clock::now();
        let grant = ticket.grant(now.monotonic);
        let namespace = &client.node.config.namespace;
        let mut renew = Renew::new(namespace, &keys, &grant, grant.lease, grant.cas);
        let renewed = client.drive(&mut renew, Some(&keys), now, Timeout::Unlimited);
        let renewed = renewed
            .await
            .map_err(|error| error.with_name(ticket.name()))?;
        let lock = client
            .node
            .attach(ticket, keys.clone(), grant.clone(), renewed)?;
        match Self::new(handle, lock) {
            Ok(guard) => {
                client.node.telemetry.attached(guard.lock.info());
                Ok(guard)
            }
            // The client was shut down while the reply was on its way. The lock belongs to the
            // ticket.
            Err(_) => Err(LockError::new(Cause::Closed).with_name(ticket.name())),
        }
    }
}

impl LockState {
    /// Returns the ticket of the lock.
    pub(crate) fn ticket(&self, namespace: &Namespace, lost: Option<LossReason>) -> LockTicket {
        let (cas, expiry) = {
            let state = self.state();
            (state.cas, state.expiry)
        };
        LockTicket::new(namespace, &self.name, &self.grant, cas, expiry).lost_before(lost)
    }
}

impl<C> Node<C> {
    /// Checks whether this client can hold the lock of a ticket. Returns its keys.
    pub(crate) fn check_ticket(&self, parts: &LockTicket) -> Result<LockKeys, LockError> {
        let about = |cause| LockError::new(cause).with_name(parts.name());
        self.check_process()?;
        if self.scheduler.is_closed() {
            return Err(about(Cause::Closed));
        }
        let prefix = self.config.namespace.prefix();
        if parts.prefix() != prefix {
            let (parts, client) = (parts.prefix().into(), prefix.into());
            return Err(about(Cause::Setting(ConfigError::Prefix { parts, client })));
        }
        if let Some(reason) = parts.lost() {
            return Err(self.error(Cause::Lost(reason)).with_name(parts.name()));
        }
        self.keys(parts.name())
    }

    /// Returns the lock of a ticket after its first renewal, with `grant`, or the error that shows
    /// that it is not held.
    pub(crate) fn attach(
        &self,
        parts: &LockTicket,
        keys: LockKeys,
        grant: Grant,
        renewed: RenewOutcome,
    ) -> Result<LockState, LockError> {
        let cause = match renewed {
            RenewOutcome::Renewed {
                cas,
                expiry,
                sent,
                valid_until,
            } => {
                let grant = Grant {
                    cas,
                    expiry,
                    sent_at: sent,
                    valid_until,
                    ..grant
                };
                let telemetry = Arc::clone(&self.telemetry);
                let name = parts.name().into();
                return Ok(LockState::new(name, keys, grant.lease, grant, telemetry));
            }
            RenewOutcome::Lost(reason) => Cause::Lost(reason),
            RenewOutcome::Failed(failure) => Cause::Server(failure),
        };
        Err(self.error(cause).with_name(parts.name()))
    }
}
