//! Connections that wait for their next use.

use std::sync::{Mutex, PoisonError};
use std::vec::Vec;

/// Idle connections, the one used last on top: it is the warmest, and the others can grow old.
#[derive(Debug)]
pub(crate) struct Pool<C> {
    idle: Mutex<Vec<C>>,
    most: usize,
}

impl<C> Pool<C> {
    pub(crate) const fn new(most: usize) -> Self {
        Self {
            idle: Mutex::new(Vec::new()),
            most,
        }
    }

    pub(crate) fn take(&self) -> Option<C> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    /// The one used last of those that are so.
    pub(crate) fn take_where(&self, is_so: impl FnMut(&C) -> bool) -> Option<C> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let place = idle.iter().rposition(is_so)?;
        Some(idle.remove(place))
    }

    /// Keeps a connection for later, or gives it back where enough are waiting.
    pub(crate) fn put(&self, connection: C) -> Option<C> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.most {
            idle.push(connection);
            return None;
        }
        Some(connection)
    }

    /// Closes all of them.
    pub(crate) fn close_all(&self) {
        let idle = core::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }
}
