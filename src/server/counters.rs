//! Counters of a server.

/// Counters under memcached's names.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counters {
    pub(crate) cmd_get: u64,
    pub(crate) cmd_set: u64,
    pub(crate) cmd_flush: u64,
    pub(crate) cmd_touch: u64,
    pub(crate) cmd_meta: u64,
    pub(crate) get_hits: u64,
    pub(crate) get_misses: u64,
    pub(crate) get_expired: u64,
    pub(crate) get_flushed: u64,
    pub(crate) delete_misses: u64,
    pub(crate) delete_hits: u64,
    pub(crate) incr_misses: u64,
    pub(crate) incr_hits: u64,
    pub(crate) decr_misses: u64,
    pub(crate) decr_hits: u64,
    pub(crate) cas_misses: u64,
    pub(crate) cas_hits: u64,
    pub(crate) cas_badval: u64,
    pub(crate) touch_hits: u64,
    pub(crate) touch_misses: u64,
    pub(crate) store_too_large: u64,
    pub(crate) store_no_memory: u64,
    pub(crate) auth_cmds: u64,
    pub(crate) auth_errors: u64,
    pub(crate) idle_kicks: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) total_items: u64,
}

impl Counters {
    pub(crate) fn got(&mut self, hit: bool) {
        self.cmd_get += 1;
        *(if hit {
            &mut self.get_hits
        } else {
            &mut self.get_misses
        }) += 1;
    }

    pub(crate) fn touched(&mut self, hit: bool) {
        self.cmd_touch += 1;
        *(if hit {
            &mut self.touch_hits
        } else {
            &mut self.touch_misses
        }) += 1;
    }

    pub(crate) fn counter_missed(&mut self, add: bool) {
        *(if add {
            &mut self.incr_misses
        } else {
            &mut self.decr_misses
        }) += 1;
    }
}
