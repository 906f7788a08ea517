//! The wall clock of the machine, set back and forth, where that was asked for: all other
//! programs on the machine have it, too.

use core::time::Duration;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// Sets the wall clock, where that is allowed.
#[derive(Debug)]
pub(crate) struct ClockLog {
    /// The reason why the clock may not be set.
    refused: Option<String>,
    /// By how many seconds it is set forward now.
    ahead: i64,
}

impl ClockLog {
    pub(crate) fn new(wanted: bool) -> Self {
        let refused = (!wanted).then(|| "not asked for (MEMLATCH_CHAOS_CLOCK=1)".to_owned());
        Self { refused, ahead: 0 }
    }

    /// The reason why the clock is not set, if it is not.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Sets it forward by so many seconds of the right time, or back. Tells whether that was
    /// possible.
    pub(crate) fn set(&mut self, ahead: i64) -> bool {
        if self.refused.is_some() {
            return false;
        }
        let present = clock_gettime(ClockId::Realtime);
        let set = clock_settime(
            ClockId::Realtime,
            Timespec {
                tv_sec: present.tv_sec + ahead - self.ahead,
                tv_nsec: present.tv_nsec,
            },
        );
        match set {
            Ok(()) => self.ahead = ahead,
            Err(error) => self.refused = Some(format!("not possible here: {error}")),
        }
        set.is_ok()
    }

    /// The longest time for which it is wrong.
    pub(crate) const LONGEST: Duration = Duration::from_secs(5);
}

impl Drop for ClockLog {
    fn drop(&mut self) {
        if self.ahead != 0 {
            self.set(0);
        }
    }
}
