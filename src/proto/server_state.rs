//! The knowledge that one client has of one server.

use super::memory::Memory;
use super::sentinel::LastSentinel;
use super::server_clock::ServerClock;
use super::server_instance::{Capabilities, InstanceWord, ServerInstance};

/// Number of instance words of one instance that are kept besides the present one. Another one
/// comes with each sentinel that was evicted and founded anew by a client that had not seen it.
const MAX_ALIASES: usize = 3;

/// The knowledge that one client has of one server.
#[derive(Debug, Clone)]
pub struct ServerState {
    /// The server instance described here.
    pub instance: ServerInstance,
    /// Its capabilities.
    pub capabilities: Capabilities,
    /// The knowledge of its clock.
    pub clock: ServerClock,
    /// The knowledge of its memory.
    pub memory: Memory,
    /// The value of the sentinel that was read last.
    pub(super) sentinel: LastSentinel,
    /// Other instance words of the same run, the latest first.
    pub(super) aliases: [Option<InstanceWord>; MAX_ALIASES],
}

impl ServerState {
    /// The state of a server of which nothing but this is known.
    #[must_use]
    pub const fn new(
        incarnation: ServerInstance,
        capabilities: Capabilities,
        clock: ServerClock,
    ) -> Self {
        Self {
            instance: incarnation,
            capabilities,
            clock,
            memory: Memory::new(),
            sentinel: LastSentinel::new(),
            aliases: [None; MAX_ALIASES],
        }
    }

    /// Returns `true` if this is the server instance described here, by its present name or an
    /// earlier one.
    #[must_use]
    pub fn is_instance(&self, run: ServerInstance) -> bool {
        self.instance == run
            || (self.instance.is_same_process(&run) && self.aliases.contains(&Some(run.word)))
    }

    /// The run has this instance word now: it was read on a connection to it.
    pub(super) fn rename(&mut self, instance: InstanceWord) {
        if self.instance.word == instance {
            return;
        }
        let before = core::mem::replace(&mut self.instance.word, instance);
        self.knows_as(before);
    }

    /// The run had this instance word before.
    pub(super) fn knows_as(&mut self, instance: InstanceWord) {
        if !self.aliases.contains(&Some(instance)) {
            self.aliases.rotate_right(1);
            self.aliases[0] = Some(instance);
        }
    }

    /// Takes in what a handshake on another connection found. Returns whether the server is
    /// another incarnation than before, so that all that was known of it is void.
    pub fn update(&mut self, fresh: Self) -> bool {
        if !self.is_instance(fresh.instance) {
            let longest = self.memory.longest_lease();
            *self = fresh;
            // Locks from before a restart are what the longest lease is waited for.
            self.memory.longest_lease_seen(longest);
            return true;
        }
        self.rename(fresh.instance.word);
        self.clock.absorb(&fresh.clock);
        self.memory.absorb(&fresh.memory);
        self.capabilities = fresh.capabilities;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::server_instance::Protocol;
    use super::*;

    fn view(pid: u64, instance: u64) -> ServerState {
        let incarnation = ServerInstance {
            pid,
            started: 1000,
            word: InstanceWord::from_bits(instance),
        };
        let capabilities = Capabilities {
            protocol: Protocol::Meta,
            explicit_cas: true,
        };
        ServerState::new(incarnation, capabilities, ServerClock::new())
    }

    #[test]
    fn earlier_instance_words_identify_the_run() {
        let mut server = view(1, 7);
        let first = server.instance;
        for word in 8..11 {
            server.rename(InstanceWord::from_bits(word));
            assert!(server.is_instance(first) && server.is_instance(server.instance));
        }
        assert!(
            !server.update(view(1, 8)),
            "an earlier name of the same run"
        );
        server.rename(InstanceWord::from_bits(20));
        server.rename(InstanceWord::from_bits(21));
        assert!(!server.is_instance(first), "only so many are kept");
    }

    #[test]
    fn changed_word_or_process_is_restart() {
        for other in [view(1, 8), view(2, 7)] {
            let mut server = view(1, 7);
            let before = server.instance;
            assert!(server.update(other));
            assert!(!server.is_instance(before));
        }
    }
}
