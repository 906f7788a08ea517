//! When a keeper reads the server's clock for its own sake.

use super::held::Held;
use super::site::Site;
use crate::lock::Moment;
use core::time::Duration;

/// Between two readings of a server's clock that is not known well yet. Two with a tick between
/// them must be at most half a second apart.
const INTERVAL: Duration = Duration::from_millis(300);

/// A server whose clock has not ticked after so many readings is stalled or gone.
const MOST_READINGS: u32 = 20;

/// How long such a server is left alone. Renewals read its clock as well.
const REST: Duration = Duration::from_secs(30);

/// How often it is looked whether the clock is still known well. Clocks may run apart, so it is
/// for half a minute or a little more.
const REVIEW: Duration = Duration::from_secs(20);

/// Readings of a server's clock, until it has been seen ticking, and again when that was too long
/// ago.
#[derive(Debug)]
pub(crate) struct Calibration {
    last: Moment,
    readings: u32,
}

impl Calibration {
    /// What begins with the keeper, a handshake or an acquisition, takes a reading by itself.
    pub(crate) const fn new(now: Moment) -> Self {
        Self {
            last: now,
            readings: 0,
        }
    }

    /// When to take the next reading, or to ask again whether one is wanted. `None` once the
    /// client is shut down.
    pub(crate) fn due<C, L: AsRef<Held>>(
        &mut self,
        site: &Site<C, L>,
        now: Moment,
    ) -> Option<Moment> {
        if site.registry.is_closed() {
            return None;
        }
        if !site.needs_calibration(now) {
            self.readings = 0;
            return Some(now.after(REVIEW));
        }
        let tired = self.readings >= MOST_READINGS;
        Some(self.last.after(if tired { REST } else { INTERVAL }))
    }

    /// A reading is taken now.
    pub(crate) const fn begin(&mut self, now: Moment) {
        self.last = now;
        self.readings = self.readings % MOST_READINGS + 1;
    }
}
