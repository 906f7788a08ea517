//! The check that all addresses of a server's name lead to the same server.
//!
//! A lock is on one server. A name with several addresses may lead to several, and each client
//! would use the one that answers it first: two clients could hold one lock. So before the client
//! uses a connection to such a name, it asks all addresses which server instance they lead to.

use crate::proto::{Instant, ServerError, ServerInstance};
use core::fmt::Write as _;
use core::net::SocketAddr;
use core::time::Duration;
use std::string::String;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

/// The time for which the client does not use an address that did not answer when the others did.
/// Then it asks all again.
const REST: Duration = Duration::from_secs(30);

/// The known state of the addresses of a name.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// All addresses that the name led to, in order; none before the first connection.
    found: Vec<SocketAddr>,
    /// The addresses among them that answered, and led to the same server.
    answered: Vec<SocketAddr>,
    /// When to ask again; `None` is never.
    again: Option<Instant>,
}

/// The next step with the addresses that a name leads to now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Connect to the first of these that can be reached.
    Use(Vec<SocketAddr>),
    /// Ask all of these first.
    Compare(Vec<SocketAddr>),
}

impl Addresses {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn plan(&self, found: &[SocketAddr], now: Instant) -> Plan {
        let state = self.state();
        let known = state.found == sorted(found);
        if known && state.again.is_none_or(|again| now < again) {
            let answered = found.iter().filter(|one| state.answered.contains(one));
            return Plan::Use(answered.copied().collect());
        }
        // At a former address of the name, clients may still hold locks.
        let former = state.answered.iter().filter(|one| !found.contains(one));
        let all: Vec<_> = found.iter().chain(former).copied().collect();
        match all.len() {
            0 | 1 => Plan::Use(all),
            _ => Plan::Compare(all),
        }
    }

    /// Records a connection to one of `found`; the addresses in `answered` have answered and led to
    /// the same server.
    pub(crate) fn reached(&self, found: &[SocketAddr], answered: Vec<SocketAddr>, now: Instant) {
        let mut state = self.state();
        state.found = sorted(found);
        let silent = found.iter().any(|one| !answered.contains(one));
        state.again = silent.then(|| now.after(REST));
        state.answered = answered;
    }

    /// Makes the client ask all addresses next time, if there are several: none of the usable ones
    /// was reached, or another server instance answered.
    pub(crate) fn ask_again(&self) {
        self.state().again = Some(Instant::from_nanos(0));
    }
}

fn sorted(found: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut found = found.to_vec();
    found.sort_unstable();
    found
}

/// The answers of several addresses.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    answers: Vec<(SocketAddr, ServerInstance)>,
}

impl Comparison {
    pub(crate) fn add(&mut self, address: SocketAddr, incarnation: ServerInstance) {
        self.answers.push((address, incarnation));
    }

    /// Returns the addresses that have answered, all with the same server.
    ///
    /// # Errors
    /// The addresses lead to different servers.
    pub(crate) fn conclude(&self, found: &[SocketAddr]) -> Result<Vec<SocketAddr>, ServerError> {
        let mut incarnations = self.answers.iter().map(|(_, incarnation)| incarnation);
        let first = incarnations.next();
        if incarnations.all(|other| Some(other) == first) {
            return Ok(self.answers.iter().map(|(address, _)| *address).collect());
        }
        let mut text = String::new();
        for (address, incarnation) in &self.answers {
            let before = if text.is_empty() { "" } else { ", " };
            let former = if found.contains(address) {
                ""
            } else {
                ", to which the name led before"
            };
            let _ = write!(text, "{before}{address} ({incarnation}{former})");
        }
        Err(ServerError::SeveralServers(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::InstanceWord;
    use core::net::Ipv4Addr;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 11211))
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn several_addresses_are_compared() {
        let addresses = Addresses::default();
        assert_eq!(addresses.plan(&[], at(0)), Plan::Use([].into()));
        let one = [address(1)];
        assert_eq!(addresses.plan(&one, at(0)), Plan::Use(one.into()));
        let two = [address(2), address(1)];
        assert_eq!(addresses.plan(&two, at(0)), Plan::Compare(two.into()));
        addresses.reached(&two, two.into(), at(0));
        // Also in the other order, as round robin returns them, and at any time.
        let swapped = [address(1), address(2)];
        assert_eq!(
            addresses.plan(&swapped, at(9999)),
            Plan::Use(swapped.into())
        );
        addresses.ask_again();
        assert_eq!(addresses.plan(&two, at(0)), Plan::Compare(two.into()));
    }

    #[test]
    fn moved_name_is_compared_with_former() {
        let addresses = Addresses::default();
        let one = [address(1)];
        addresses.reached(&one, one.into(), at(0));
        assert_eq!(addresses.plan(&one, at(5)), Plan::Use(one.into()));
        let other = [address(2)];
        let both = Plan::Compare([address(2), address(1)].into());
        assert_eq!(addresses.plan(&other, at(5)), both);
        addresses.reached(&other, other.into(), at(5));
        assert_eq!(addresses.plan(&other, at(6)), Plan::Use(other.into()));
    }

    #[test]
    fn silent_address_is_compared_again() {
        let addresses = Addresses::default();
        let two = [address(1), address(2)];
        addresses.reached(&two, [address(2)].into(), at(0));
        let answered = Plan::Use([address(2)].into());
        assert_eq!(addresses.plan(&two, at(29)), answered);
        assert_eq!(addresses.plan(&two, at(30)), Plan::Compare(two.into()));
    }

    #[test]
    fn different_servers_are_named() {
        let incarnation = |pid| ServerInstance {
            pid,
            started: 5,
            word: InstanceWord::from_bits(1),
        };
        let mut comparison = Comparison::default();
        assert_eq!(comparison.conclude(&[]), Ok([].into()));
        comparison.add(address(1), incarnation(7));
        comparison.add(address(2), incarnation(7));
        let two = [address(1), address(2)];
        assert_eq!(comparison.conclude(&two), Ok(two.into()));
        comparison.add(address(3), incarnation(8));
        let Err(failure) = comparison.conclude(&two) else {
            panic!("they differ");
        };
        let text = std::string::ToString::to_string(&failure);
        for part in [
            "127.0.0.1:11211 (pid 7 started at 5, instance 0000000000000001), 127.0.0.2:11211",
            "127.0.0.3:11211 (pid 8 started at 5, instance 0000000000000001, to which the name led",
            "set the address of one of them",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
