//! Requests of administrators: how they are written.
//!
//! All of them are older than 1.6 unless a release is named. They are typed like the rest, so that
//! none of them can carry a second command.

use super::number::{parse_u64, put_i64, put_u64};
use bytes::BytesMut;
use core::fmt::Write as _;

/// `lru`: how the server keeps items by use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LruCommand {
    /// `lru tune`: the shares of the hot and the warm queue and how old their items grow.
    Tune {
        /// Percent of the memory for the hot queue. Refused when both are over 80 together.
        hot_percent: u32,
        /// Percent of the memory for the warm queue.
        warm_percent: u32,
        /// The age of the hot queue, as a part of that of the cold one. Above 0.
        hot_factor: Decimal,
        /// The age of the warm queue, as a part of that of the cold one. Above 0.
        warm_factor: Decimal,
    },
    /// `lru mode`: one queue or three.
    Mode(LruMode),
    /// `lru temp_ttl`: items stored with at most this many seconds to live are never evicted,
    /// unless `mg` or `ma` created them. Below 0 no item is exempt.
    TemporaryTtl(i32),
}

/// The number of queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LruMode {
    /// `flat`: one.
    Flat,
    /// `segmented`: three, and one for items of short life.
    Segmented,
}

/// `lru_crawler`: the thread that looks at all items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrawlerCommand<'a> {
    /// `enable`: starts the thread. Refused when it runs already.
    Enable,
    /// `disable`: ends it.
    Disable,
    /// `sleep`: how many microseconds it rests between items; at most a second.
    Sleep(u32),
    /// `tocrawl`: how many items of each class it looks at in one run; 0 is all.
    ToCrawl(u32),
    /// `crawl`: frees what has expired, now.
    Crawl(SlabClasses<'a>),
    /// `metadump`: describes every item, see [`MetadumpDecoder`](super::MetadumpDecoder). Send it
    /// alone on a connection.
    Metadump(SlabClasses<'a>),
    /// `mgdump`: the keys of all items as `mg` commands, see
    /// [`MgdumpDecoder`](super::MgdumpDecoder) (1.6.19 and later). Send it alone on a connection.
    Mgdump(SlabClasses<'a>),
}

/// The items that the crawler visits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlabClasses<'a> {
    /// `all`: one class after the other.
    All,
    /// `hash`: through the hash table, each item once. Not for `crawl`.
    Hash,
    /// Some classes, by their numbers.
    Some(ClassIds<'a>),
}

/// Numbers of slab classes: a list to be sent, or the word of a line that was read.
#[derive(Debug, Clone, Copy)]
pub struct ClassIds<'a>(Repr<'a>);

#[derive(Debug, Clone, Copy)]
enum Repr<'a> {
    List(&'a [u8]),
    /// One word. What is no number in it is for the server to refuse.
    Word(&'a [u8]),
}

impl<'a> ClassIds<'a> {
    /// Numbers to be sent. The server takes 1 to 63 and answers `BADCLASS` to others.
    #[must_use]
    pub const fn list(ids: &'a [u8]) -> Self {
        Self(Repr::List(ids))
    }

    pub(super) const fn from_word(word: &'a [u8]) -> Self {
        Self(Repr::Word(word))
    }

    /// The numbers, or `None` for what is none of 0 to 255.
    pub fn iter(&self) -> impl Iterator<Item = Option<u8>> + use<'a> {
        let (list, word) = match self.0 {
            Repr::List(list) => (list, &b""[..]),
            Repr::Word(word) => (&[][..], word),
        };
        let parts = word.split(|byte| *byte == b',');
        let named = parts.filter(|part| !part.is_empty());
        list.iter()
            .copied()
            .map(Some)
            .chain(named.map(|part| u8::try_from(parse_u64(part)?).ok()))
    }

    fn encode(&self, out: &mut BytesMut) {
        match self.0 {
            // Without a number there must still be a word.
            Repr::List([]) => out.extend_from_slice(b","),
            Repr::List(ids) => {
                for (index, id) in ids.iter().enumerate() {
                    if index > 0 {
                        out.extend_from_slice(b",");
                    }
                    put_u64(out, u64::from(*id));
                }
            }
            Repr::Word(word) => out.extend_from_slice(word),
        }
    }
}

impl PartialEq for ClassIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for ClassIds<'_> {}

/// `slabs`: the pages that memory is divided into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlabsCommand {
    /// `slabs reassign`: moves a page from one class to another, and evicts what stands in it.
    Reassign {
        /// The class that gives. -1 is any, for servers that know it.
        source: i32,
        /// The class that gets.
        destination: i32,
    },
    /// `slabs automove`: whether the server moves pages by itself.
    Automove {
        /// The value to set.
        setting: Automove,
        /// `true` if the server leaves out the answer.
        noreply: bool,
    },
}

/// A setting of `slabs automove`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Automove {
    /// `0`: pages stay where they are.
    Off,
    /// `1`: pages move where they are needed, slowly.
    On,
    /// `2`: at each eviction a page moves. Not for production, says its maker.
    Aggressive,
    /// `ratio`: how much older the oldest item of one class may be than that of another.
    Ratio(Decimal),
    /// `freeratio`: the part of memory that is kept free (newer than 1.6.18).
    FreeRatio(Decimal),
    /// `window`: over how many seconds the decision is made (newer than 1.6.18). 1.6.45 refuses
    /// those below about 5 and above an hour.
    Window(u32),
}

/// A finite number with a fraction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decimal(f64);

// A finite number equals itself.
impl Eq for Decimal {}

impl Decimal {
    /// `None` when `value` is infinite or no number.
    #[must_use]
    pub const fn new(value: f64) -> Option<Self> {
        if value.is_finite() {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    /// Reads a number as the server does, but for hexadecimal, infinite and missing ones.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(text).ok()?;
        Self::new(text.parse().ok()?)
    }

    fn encode(self, out: &mut BytesMut) {
        // Never with an exponent, and a buffer that grows takes whatever is written.
        let _ = write!(out, "{}", self.0);
    }
}

impl LruCommand {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Tune {
                hot_percent,
                warm_percent,
                hot_factor,
                warm_factor,
            } => {
                out.extend_from_slice(b"lru tune ");
                put_u64(out, u64::from(*hot_percent));
                out.extend_from_slice(b" ");
                put_u64(out, u64::from(*warm_percent));
                out.extend_from_slice(b" ");
                hot_factor.encode(out);
                out.extend_from_slice(b" ");
                warm_factor.encode(out);
            }
            Self::Mode(LruMode::Flat) => out.extend_from_slice(b"lru mode flat"),
            Self::Mode(LruMode::Segmented) => out.extend_from_slice(b"lru mode segmented"),
            Self::TemporaryTtl(ttl) => {
                out.extend_from_slice(b"lru temp_ttl ");
                put_i64(out, i64::from(*ttl));
            }
        }
    }
}

impl CrawlerCommand<'_> {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.extend_from_slice(b"lru_crawler ");
        match self {
            Self::Enable => out.extend_from_slice(b"enable"),
            Self::Disable => out.extend_from_slice(b"disable"),
            Self::Sleep(micros) => {
                out.extend_from_slice(b"sleep ");
                put_u64(out, u64::from(*micros));
            }
            Self::ToCrawl(items) => {
                out.extend_from_slice(b"tocrawl ");
                put_u64(out, u64::from(*items));
            }
            Self::Crawl(classes) => {
                out.extend_from_slice(b"crawl ");
                classes.encode(out);
            }
            Self::Metadump(classes) => {
                out.extend_from_slice(b"metadump ");
                classes.encode(out);
            }
            Self::Mgdump(classes) => {
                out.extend_from_slice(b"mgdump ");
                classes.encode(out);
            }
        }
    }
}

impl SlabClasses<'_> {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::All => out.extend_from_slice(b"all"),
            Self::Hash => out.extend_from_slice(b"hash"),
            Self::Some(ids) => ids.encode(out),
        }
    }
}

impl SlabsCommand {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Reassign {
                source,
                destination,
            } => {
                out.extend_from_slice(b"slabs reassign ");
                put_i64(out, i64::from(*source));
                out.extend_from_slice(b" ");
                put_i64(out, i64::from(*destination));
            }
            Self::Automove { setting, .. } => {
                out.extend_from_slice(b"slabs automove ");
                match setting {
                    Automove::Off => out.extend_from_slice(b"0"),
                    Automove::On => out.extend_from_slice(b"1"),
                    Automove::Aggressive => out.extend_from_slice(b"2"),
                    Automove::Ratio(ratio) => {
                        out.extend_from_slice(b"ratio ");
                        ratio.encode(out);
                    }
                    Automove::FreeRatio(ratio) => {
                        out.extend_from_slice(b"freeratio ");
                        ratio.encode(out);
                    }
                    Automove::Window(seconds) => {
                        out.extend_from_slice(b"window ");
                        put_u64(out, u64::from(*seconds));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::Request;
    use super::*;
    use alloc::string::String;

    fn written(request: Request<'_>) -> String {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        let line = out.strip_suffix(b"\r\n").expect("a line");
        String::from_utf8(line.into()).expect("plain text")
    }

    fn decimal(value: f64) -> Decimal {
        Decimal::new(value).expect("finite")
    }

    #[test]
    fn admin_commands_match_the_protocol() {
        let tune = LruCommand::Tune {
            hot_percent: 10,
            warm_percent: 25,
            hot_factor: decimal(0.1),
            warm_factor: decimal(2.0),
        };
        for (command, line) in [
            (tune, "lru tune 10 25 0.1 2"),
            (LruCommand::Mode(LruMode::Flat), "lru mode flat"),
            (LruCommand::Mode(LruMode::Segmented), "lru mode segmented"),
            (LruCommand::TemporaryTtl(-1), "lru temp_ttl -1"),
        ] {
            for (noreply, end) in [(false, ""), (true, " noreply")] {
                let line = [line, end].concat();
                assert_eq!(written(Request::Lru { command, noreply }), line);
            }
        }
        let some = |ids| SlabClasses::Some(ClassIds::list(ids));
        for (command, line) in [
            (CrawlerCommand::Enable, "enable"),
            (CrawlerCommand::Disable, "disable"),
            (CrawlerCommand::Sleep(100), "sleep 100"),
            (CrawlerCommand::ToCrawl(0), "tocrawl 0"),
            (CrawlerCommand::Crawl(SlabClasses::All), "crawl all"),
            (CrawlerCommand::Crawl(some(&[5])), "crawl 5"),
            (CrawlerCommand::Crawl(some(&[1, 7, 63])), "crawl 1,7,63"),
            (CrawlerCommand::Metadump(SlabClasses::Hash), "metadump hash"),
            (CrawlerCommand::Mgdump(SlabClasses::All), "mgdump all"),
        ] {
            let line = ["lru_crawler ", line].concat();
            assert_eq!(written(Request::LruCrawler(command)), line);
        }
        for (setting, words) in [
            (Automove::Off, "0"),
            (Automove::On, "1"),
            (Automove::Aggressive, "2"),
            (Automove::Ratio(decimal(0.8)), "ratio 0.8"),
            (Automove::FreeRatio(decimal(1e-9)), "freeratio 0.000000001"),
            (Automove::Window(30), "window 30"),
        ] {
            for (noreply, end) in [(false, ""), (true, " noreply")] {
                let command = SlabsCommand::Automove { setting, noreply };
                let line = ["slabs automove ", words, end].concat();
                assert_eq!(written(Request::Slabs(command)), line);
            }
        }
        let reassign = SlabsCommand::Reassign {
            source: -1,
            destination: 39,
        };
        assert_eq!(written(Request::Slabs(reassign)), "slabs reassign -1 39");
    }

    #[test]
    fn class_lists_compare_by_number() {
        let list = ClassIds::list(&[1, 63]);
        assert_eq!(list, ClassIds::from_word(b"1,063"));
        assert_ne!(list, ClassIds::list(&[1]));
        assert_ne!(list, ClassIds::from_word(b"63,1"));
        assert_ne!(list, ClassIds::from_word(b"1,x"));
    }
}
