//! Requests of administrators, as a server reads them.
//!
//! From 1.6.40 on the second word may be cut short: it is compared no further than it goes.

use super::admin::{
    Automove, ClassIds, CrawlerCommand, Decimal, LruCommand, LruMode, SlabClasses, SlabsCommand,
};
use super::error_reply::ErrorSource;
use super::number::{parse_i64, parse_u32};
use super::request::Request;
use super::request_line::Rejected;
use super::token::Tokens;
use super::watch::WatchStreams;

/// Up to so many words are looked at.
const WORDS: usize = 5;

/// The words of a line, and how many there are.
fn words(rest: &[u8]) -> ([&[u8]; WORDS], usize) {
    let mut words = [&b""[..]; WORDS];
    words
        .iter_mut()
        .zip(Tokens(rest))
        .for_each(|(place, word)| *place = word);
    (words, Tokens(rest).count())
}

fn is(word: &[u8], full: &str) -> bool {
    !word.is_empty() && full.as_bytes().starts_with(word)
}

const fn error(text: &'static str) -> Rejected {
    Rejected::new(ErrorSource::Command, text)
}

pub(super) fn cache_memlimit(rest: &[u8], noreply: bool) -> Result<Request<'_>, Rejected> {
    let word = Tokens(rest).next();
    let megabytes = word.and_then(parse_u32).ok_or(Rejected::unknown())?;
    Ok(Request::CacheMemlimit { megabytes, noreply })
}

pub(super) fn lru(rest: &[u8], noreply: bool) -> Result<Request<'_>, Rejected> {
    let ([name, first, second, third, fourth], count) = words(rest);
    let command = if is(name, "tune") && count >= 5 {
        let (Some(hot_percent), Some(warm_percent), Some(hot_factor), Some(warm_factor)) = (
            parse_u32(first),
            parse_u32(second),
            Decimal::parse(third),
            Decimal::parse(fourth),
        ) else {
            return Err(Rejected::unknown());
        };
        if hot_percent.saturating_add(warm_percent) > 80 {
            return Err(error("hot and warm pcts must not exceed 80"));
        }
        if hot_factor.get() <= 0.0 || warm_factor.get() <= 0.0 {
            return Err(error("hot/warm age factors must be greater than 0"));
        }
        LruCommand::Tune {
            hot_percent,
            warm_percent,
            hot_factor,
            warm_factor,
        }
    } else if is(name, "mode") && count >= 2 {
        if is(first, "flat") {
            LruCommand::Mode(LruMode::Flat)
        } else if is(first, "segmented") {
            LruCommand::Mode(LruMode::Segmented)
        } else {
            return Err(Rejected::unknown());
        }
    } else if is(name, "temp_ttl") && count >= 2 {
        LruCommand::TemporaryTtl(int(first).ok_or(Rejected::unknown())?)
    } else {
        return Err(Rejected::unknown());
    };
    Ok(Request::Lru { command, noreply })
}

pub(super) fn lru_crawler(rest: &[u8]) -> Result<Request<'_>, Rejected> {
    let ([name, argument, ..], count) = words(rest);
    let number = || parse_u32(argument).ok_or(Rejected::format());
    let command = match count {
        1 if is(name, "enable") => CrawlerCommand::Enable,
        1 if is(name, "disable") => CrawlerCommand::Disable,
        2 if is(name, "crawl") => CrawlerCommand::Crawl(classes(argument)),
        2 if is(name, "metadump") => CrawlerCommand::Metadump(classes(argument)),
        2 if is(name, "mgdump") => CrawlerCommand::Mgdump(classes(argument)),
        2 if is(name, "tocrawl") => CrawlerCommand::ToCrawl(number()?),
        2 if is(name, "sleep") => {
            let micros = number()?;
            if micros > 1_000_000 {
                return Err(Rejected::client("sleep must be one second or less"));
            }
            CrawlerCommand::Sleep(micros)
        }
        _ => return Err(Rejected::unknown()),
    };
    Ok(Request::LruCrawler(command))
}

fn classes(word: &[u8]) -> SlabClasses<'_> {
    match word {
        b"all" => SlabClasses::All,
        b"hash" => SlabClasses::Hash,
        ids => SlabClasses::Some(ClassIds::from_word(ids)),
    }
}

pub(super) fn slabs(rest: &[u8], noreply: bool) -> Result<Request<'_>, Rejected> {
    let ([name, first, second, ..], count) = words(rest);
    let command = if is(name, "reassign") && count == 3 {
        SlabsCommand::Reassign {
            source: int(first).ok_or(Rejected::format())?,
            destination: int(second).ok_or(Rejected::format())?,
        }
    } else if is(name, "automove") && count >= 2 {
        let ratio = || Decimal::parse(second).ok_or(Rejected::unknown());
        let setting = if is(first, "ratio") {
            Automove::Ratio(ratio()?)
        } else if is(first, "freeratio") {
            Automove::FreeRatio(ratio()?)
        } else if is(first, "window") {
            Automove::Window(parse_u32(second).ok_or(Rejected::format())?)
        } else {
            match parse_u32(first).ok_or(Rejected::format())? {
                0 => Automove::Off,
                1 => Automove::On,
                2 => Automove::Aggressive,
                _ => return Err(Rejected::unknown()),
            }
        };
        SlabsCommand::Automove { setting, noreply }
    } else {
        return Err(Rejected::unknown());
    };
    Ok(Request::Slabs(command))
}

pub(super) fn watch(rest: &[u8]) -> Result<Request<'_>, Rejected> {
    let mut streams = WatchStreams::default();
    for word in Tokens(rest) {
        streams = streams.and(WatchStreams::from_word(word).ok_or(Rejected::unknown())?);
    }
    if streams.is_empty() {
        streams = WatchStreams::FETCHERS;
    }
    Ok(Request::Watch(streams))
}

/// A strictly read `int`.
fn int(digits: &[u8]) -> Option<i32> {
    i32::try_from(parse_i64(digits)?).ok()
}
