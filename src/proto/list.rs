//! Finding the locks under a prefix, by a dump of all items of the server.

use super::failure::ServerError;
use super::inspect::{Inspect, InspectOutcome};
use super::name::{DecodedName, LockKeys, Namespace};
use super::operation::{Action, FlightError, Operation, Sealed};
use super::probe::LARGEST_ITEM;
use super::server_state::ServerState;
use super::time::{Instant, Now};
use crate::wire::{
    AdminErrorReason, CrawlerCommand, DecodeError, DumpLine, DumpedItem, Flight, Replies, Request,
    SlabClasses,
};
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// Number of locks that are looked at in one flight. Even where a stranger has put the largest item
/// there that is read, 4 kB, in the place of each counter of tokens, the replies stay below the 64
/// kB that are kept of one flight's.
const BATCH: usize = 12;

/// The time to wait before a server is asked again that has begun to do something else with its
/// items, and how often. It looks through them by itself now and then, for a moment.
const PAUSE: Duration = Duration::from_millis(100);
const MAX_TRIES: u8 = 30;

/// Lists the names of the locks under a prefix from a dump.
///
/// The dump is that of `lru_crawler metadump` (memcached 1.4.31 and later). `mgdump` is no
/// alternative: it shows keys in raw bytes, among which a stranger's key can look like a line.
#[derive(Debug)]
pub struct ListLocks<'a> {
    namespace: &'a Namespace,
    /// The prefix of the names.
    start: &'a [u8],
    limit: usize,
    /// The keys found, from the position on at which they contain the name.
    keys: BTreeSet<Vec<u8>>,
    is_complete: bool,
    /// The server does not know how to go through its hash table.
    by_class: bool,
    tries: u8,
}

/// The next step after a line of a dump, or after all lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListStep {
    /// The dump is over.
    Done,
    /// There was none. The server is to be asked again, after a pause.
    Retry {
        /// The time to wait.
        after: Duration,
    },
    /// There will be none.
    Failed(ServerError),
}

impl<'a> ListLocks<'a> {
    /// A search for locks whose names start with `start`. Of more than `most`, the first in the
    /// order of their keys are kept.
    #[must_use]
    pub const fn new(namespace: &'a Namespace, start: &'a str, most: usize) -> Self {
        Self {
            namespace,
            start: start.as_bytes(),
            limit: most,
            keys: BTreeSet::new(),
            is_complete: true,
            by_class: false,
            tries: 0,
        }
    }

    /// Writes the request for the dump. It goes alone, on a connection that is used for nothing
    /// else.
    pub fn prepare(&self, flight: &mut Flight) {
        // Through the hash table, for an item that moves from one list of its class to another
        // meanwhile is seen there all the same.
        let classes = if self.by_class {
            SlabClasses::All
        } else {
            SlabClasses::Hash
        };
        flight.push(&Request::LruCrawler(CrawlerCommand::Metadump(classes)));
    }

    /// Takes in a line of the answer. `None` asks for the next one.
    pub fn take(&mut self, line: &DumpLine<'_, DumpedItem<'_>>) -> Option<ListStep> {
        match line {
            DumpLine::Started => None,
            DumpLine::Item(item) => {
                self.keep(item);
                None
            }
            DumpLine::End => Some(ListStep::Done),
            DumpLine::Declined(declined) => Some(match declined.reason {
                AdminErrorReason::BadClass if !self.by_class => {
                    self.by_class = true;
                    ListStep::Retry {
                        after: Duration::ZERO,
                    }
                }
                // There is not a single item.
                AdminErrorReason::NotStarted => ListStep::Done,
                _ => self.retry(String::from_utf8_lossy(declined.text).into_owned()),
            }),
            // Its hash table is growing.
            DumpLine::Error(error) if error.text == b"locked try again later" => {
                Some(self.retry(error.to_string()))
            }
            DumpLine::Error(error) => Some(ListStep::Failed(ServerError::DumpRejected(
                error.to_string(),
            ))),
        }
    }

    fn retry(&mut self, why: String) -> ListStep {
        self.tries += 1;
        if self.tries < MAX_TRIES {
            ListStep::Retry { after: PAUSE }
        } else {
            ListStep::Failed(ServerError::DumpBusy(why))
        }
    }

    fn keep(&mut self, item: &DumpedItem<'_>) {
        // Most items belong to other applications: those cost no allocation. An item that is larger
        // than any record of this crate is not read.
        if item.facts.size > LARGEST_ITEM || !self.namespace.is_lock_key(item.key.bytes()) {
            return;
        }
        let key: Vec<u8> = item.key.bytes().collect();
        let Some(encoded) = self.namespace.encoded_name(&key) else {
            return;
        };
        let name = DecodedName::decode(self.namespace, encoded);
        if !name.is_some_and(|name| name.as_bytes().starts_with(self.start)) {
            return;
        }
        if self.keys.len() < self.limit {
            self.keys.insert(encoded.into());
        } else if !self.keys.contains(encoded) {
            self.is_complete = false;
            if self.keys.last().is_some_and(|last| &**last > encoded) {
                self.keys.pop_last();
                self.keys.insert(encoded.into());
            }
        }
    }

    /// Returns `true` if all that was found was kept.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The next of those found, to be looked at in one flight. Empty when there are no more.
    pub fn next_batch(&mut self) -> KeyPage {
        let mut batch = KeyPage::default();
        while batch.names.len() < BATCH {
            let Some(encoded) = self.keys.pop_first() else {
                break;
            };
            // Both were possible before.
            let name = DecodedName::decode(self.namespace, &encoded);
            if let (Some(name), Ok(keys)) = (name, self.namespace.keys_of_encoded(&encoded)) {
                batch.names.push(name);
                batch.keys.push(keys);
            }
        }
        batch
    }
}

/// Some locks, to be looked at together.
#[derive(Debug, Default)]
pub struct KeyPage {
    /// Their names.
    pub names: Vec<DecodedName>,
    /// Their keys.
    pub keys: Vec<LockKeys>,
}

/// Looks at several locks in one flight.
#[derive(Debug)]
pub struct InspectPage<'a> {
    items: Vec<Inspect<'a>>,
}

impl<'a> InspectPage<'a> {
    /// A look at the locks with these keys, of which there should not be many more than fit into
    /// one [`KeyPage`].
    #[must_use]
    pub fn new(keys: &'a [LockKeys]) -> Self {
        Self {
            items: keys.iter().map(Inspect::new).collect(),
        }
    }
}

impl Sealed for InspectPage<'_> {}

impl Operation for InspectPage<'_> {
    type Outcome = Vec<InspectOutcome>;

    fn poll_transmit(
        &mut self,
        server: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), Vec<InspectOutcome>> {
        if self.items.is_empty() {
            return Err(Vec::new());
        }
        for look in &mut self.items {
            look.poll_transmit(server, now, flight)
                .map_err(|seen| [seen])?;
        }
        Ok(())
    }

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<Vec<InspectOutcome>>, DecodeError> {
        let mut all = Vec::with_capacity(self.items.len());
        for look in &mut self.items {
            if let Action::Done(seen) = look.handle_replies(server, replies, sent, received)? {
                all.push(seen);
            }
        }
        Ok(Action::Done(all))
    }

    fn handle_failure(&mut self, _how: FlightError, _now: Now) -> Action<Vec<InspectOutcome>> {
        Action::Fail { unknown: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Limits, MetadumpDecoder};
    use alloc::format;

    fn line(search: &mut ListLocks<'_>, text: &str) -> Option<ListStep> {
        let text = format!("{text}\r\n");
        let decoded = MetadumpDecoder::new(Limits::LOCK).decode(text.as_bytes());
        let (line, _) = decoded.expect("a sound line").expect("a whole line");
        search.take(&line)
    }

    fn item(search: &mut ListLocks<'_>, key: &str, size: u32) {
        let text = format!("key={key} exp=1 la=2 cas=3 fetch=no cls=1 size={size} ");
        assert_eq!(line(search, &text), None);
    }

    fn names(search: &mut ListLocks<'_>) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let batch = search.next_batch();
            if batch.names.is_empty() {
                return all;
            }
            assert_eq!(batch.names.len(), batch.keys.len());
            assert!(batch.names.len() <= BATCH);
            all.extend(batch.names.iter().map(ToString::to_string));
        }
    }

    fn asks(search: &ListLocks<'_>) -> Vec<u8> {
        let mut flight = Flight::new();
        search.prepare(&mut flight);
        flight.bytes().into()
    }

    #[test]
    fn list_keeps_to_the_prefix() {
        let namespace = Namespace::new("p:").expect("a plain prefix");
        let mut search = ListLocks::new(&namespace, "a", 10);
        assert_eq!(asks(&search), b"lru_crawler metadump hash\r\n");
        assert_eq!(line(&mut search, "OK"), None);
        for key in [
            "p%3Alock%3Aab",
            "p%3Alock%3Aa%2520b",
            // Of another kind, prefix, or name.
            "p%3Afence%3Aab",
            "p%3Asentinel",
            "q%3Alock%3Aab",
            "p%3Alock%3Ab",
            "p%3Alock%3A",
            "p%3Aloc",
            "",
            // No name is written like this.
            "p%3Alock%3Aa%25zz",
            "p%3Alock%3Aa%2541",
            "p%3Alock%3Aa%20b",
            // Twice.
            "p%3Alock%3Aab",
        ] {
            if !key.is_empty() {
                item(&mut search, key, 100);
            }
        }
        // Nor is there a record of that size.
        item(&mut search, "p%3Alock%3Aabc", 5000);
        assert_eq!(line(&mut search, "END"), Some(ListStep::Done));
        assert!(search.is_complete());
        assert_eq!(names(&mut search), ["a b", "ab"]);
    }

    #[test]
    fn hashed_names_are_listed_and_marked() {
        let namespace = Namespace::new("p:").expect("a plain prefix");
        let keys = namespace.keys(&[b'x'; 300]).expect("a long name");
        let key = String::from_utf8_lossy(keys.lock().as_bytes()).into_owned();
        let shown = key.replace(':', "%3A").replace('#', "%23");
        for (start, found) in [("", 1), ("#0d4e", 1), ("x", 0)] {
            let mut search = ListLocks::new(&namespace, start, 10);
            item(&mut search, &shown, 100);
            let batch = search.next_batch();
            assert_eq!(batch.names.len(), found, "{start}");
            for (name, found) in batch.names.iter().zip(&batch.keys) {
                assert!(matches!(name, DecodedName::Hashed(_)));
                assert_eq!(*found, keys);
            }
        }
    }

    #[test]
    fn long_list_is_cut_and_marked() {
        let namespace = Namespace::new("p:").expect("a plain prefix");
        let mut search = ListLocks::new(&namespace, "", 3);
        for name in ["d", "b", "e"] {
            item(&mut search, &format!("p%3Alock%3A{name}"), 100);
        }
        item(&mut search, "p%3Alock%3Ab", 100);
        assert!(search.is_complete());
        for name in ["a", "f", "c"] {
            item(&mut search, &format!("p%3Alock%3A{name}"), 100);
        }
        assert!(!search.is_complete());
        assert_eq!(names(&mut search), ["a", "b", "c"]);
    }

    #[test]
    fn refusing_and_busy_servers_are_distinguished() {
        let namespace = Namespace::new("p:").expect("a plain prefix");
        let mut search = ListLocks::new(&namespace, "", 10);
        for refusal in [
            "ERROR",
            "ERROR metadump not allowed",
            "CLIENT_ERROR lru crawler disabled",
        ] {
            assert_eq!(
                line(&mut search, refusal),
                Some(ListStep::Failed(ServerError::DumpRejected(refusal.into())))
            );
        }
        let again = |after| Some(ListStep::Retry { after });
        // An old one, that does not know `hash`, is asked for the other kind, once.
        let unknown = "BADCLASS invalid class id";
        assert_eq!(line(&mut search, unknown), again(Duration::ZERO));
        assert_eq!(asks(&search), b"lru_crawler metadump all\r\n");
        assert_eq!(line(&mut search, unknown), again(PAUSE));
        assert_eq!(
            line(&mut search, "NOTSTARTED no items to crawl"),
            Some(ListStep::Done)
        );

        let mut search = ListLocks::new(&namespace, "", 10);
        let busy = [
            "BUSY currently processing crawler request",
            "ERROR locked try again later",
        ];
        for try_number in 1..MAX_TRIES {
            let busy = busy[usize::from(try_number) % 2];
            assert_eq!(line(&mut search, busy), again(PAUSE));
        }
        assert!(matches!(
            line(&mut search, busy[0]),
            Some(ListStep::Failed(ServerError::DumpBusy(why))) if why.starts_with("currently")
        ));
    }
}
