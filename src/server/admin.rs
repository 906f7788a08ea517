//! The commands of administrators.

use super::base64::shown_key;
use super::engine::Engine;
use super::item::{Item, Second};
use super::replies::{client_error, declined, error};
use super::slabs::HIGHEST_CLASS;
use crate::wire::{
    AdminErrorReason, Automove, CrawlerCommand, DumpedItem, DumpedKey, ItemMetadata, LruCommand,
    LruMode, MetaReply, MetaStatus, Reply, ReplyFlags, SlabClasses, SlabsCommand, UriKey,
};
use bytes::BytesMut;

/// The highest slab class that a server with its default settings has.
const HIGHEST_USED_CLASS: i32 = 39;

const MEGABYTE: usize = 1024 * 1024;

/// `cache_memlimit`. What is over the new limit goes when room is needed next.
pub(super) fn cache_memlimit(engine: &mut Engine, megabytes: u32) -> Reply<'static> {
    match megabytes {
        0..8 => declined(
            AdminErrorReason::MemlimitTooSmall,
            "cannot set maxbytes to less than 8m",
        ),
        8..=1_000_000_000 => {
            let bytes = usize::try_from(megabytes).unwrap_or(usize::MAX);
            engine.store.cache.limits.memory = bytes.saturating_mul(MEGABYTE);
            Reply::Ok
        }
        _ => declined(
            AdminErrorReason::MemlimitAdjustFailed,
            "input value is megabytes not bytes",
        ),
    }
}

/// `lru`.
pub(super) fn lru(engine: &mut Engine, command: LruCommand) -> Reply<'static> {
    let limits = &mut engine.store.cache.limits;
    match command {
        LruCommand::TemporaryTtl(ttl) => limits.temporary_ttl = Second::try_from(ttl).ok(),
        LruCommand::Mode(mode) => limits.lru.segmented = mode == LruMode::Segmented,
        LruCommand::Tune {
            hot_percent,
            warm_percent,
            hot_factor,
            warm_factor,
        } => {
            limits.lru.hot_percent = hot_percent as usize;
            limits.lru.warm_percent = warm_percent as usize;
            limits.lru.hot_factor = hot_factor.get();
            limits.lru.warm_factor = warm_factor.get();
        }
    }
    Reply::Ok
}

/// `slabs`. There are none here, so that none has a page to spare.
pub(super) fn slabs(command: SlabsCommand) -> Reply<'static> {
    match command {
        SlabsCommand::Reassign {
            source,
            destination,
        } if source == destination => {
            declined(AdminErrorReason::Same, "src and dst class are identical")
        }
        SlabsCommand::Reassign {
            source,
            destination,
        } => {
            let known = |class| (0..=HIGHEST_USED_CLASS).contains(&class);
            if known(source) && known(destination) {
                declined(AdminErrorReason::NoSpare, "source class has no spare pages")
            } else {
                declined(AdminErrorReason::BadClass, "invalid src or dst class id")
            }
        }
        SlabsCommand::Automove {
            setting: Automove::Window(seconds),
            ..
        } if !(5..3600).contains(&seconds) => client_error("automove window too low or too high"),
        _ => Reply::Ok,
    }
}

/// `lru_crawler`.
pub(super) fn lru_crawler(
    engine: &mut Engine,
    command: CrawlerCommand<'_>,
    now: Second,
    out: &mut BytesMut,
) {
    let reply = match command {
        CrawlerCommand::Enable if engine.crawler => error("failed to start lru crawler thread"),
        CrawlerCommand::Enable => {
            engine.crawler = true;
            Reply::Ok
        }
        CrawlerCommand::Disable => {
            engine.crawler = false;
            Reply::Ok
        }
        CrawlerCommand::Crawl(classes) => match check(engine, classes, true) {
            Ok(()) => {
                let is_crawled = |class| is_named(classes, class);
                engine.store.cache.reclaim(now, is_crawled);
                Reply::Ok
            }
            Err(reply) => reply,
        },
        CrawlerCommand::Metadump(classes) => {
            return dump(engine, Dump::Items, classes, now, out);
        }
        CrawlerCommand::Mgdump(classes) => {
            return dump(engine, Dump::Keys, classes, now, out);
        }
        // It never rests, and looks at everything.
        _ => Reply::Ok,
    };
    reply.encode(out);
}

/// Returns `true` if the crawler looks at this class.
fn is_named(classes: SlabClasses<'_>, class: u8) -> bool {
    match classes {
        SlabClasses::Some(ids) => ids.iter().any(|id| id == Some(class)),
        _ => true,
    }
}

/// Returns an error reply if the crawler cannot carry out a command for these classes.
fn check(engine: &Engine, classes: SlabClasses<'_>, frees: bool) -> Result<(), Reply<'static>> {
    if !engine.crawler {
        return Err(client_error("lru crawler disabled"));
    }
    match classes {
        SlabClasses::Hash if frees => Err(error("an unknown error happened")),
        SlabClasses::Some(ids) => {
            let known = |id: Option<u8>| id.filter(|id| (1..=HIGHEST_CLASS).contains(id));
            if ids.iter().any(|id| known(id).is_none()) {
                return Err(declined(AdminErrorReason::BadClass, "invalid class id"));
            }
            if ids.iter().next().is_none() {
                return Err(declined(AdminErrorReason::NotStarted, "no items to crawl"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The two kinds of dump.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dump {
    Items,
    Keys,
}

fn dump(engine: &Engine, kind: Dump, classes: SlabClasses<'_>, now: Second, out: &mut BytesMut) {
    let forbidden = match kind {
        Dump::Items => "metadump not allowed",
        Dump::Keys => "key dump not allowed",
    };
    match check(engine, classes, false) {
        Ok(()) if !engine.settings.dump_enabled => return error(forbidden).encode(out),
        Ok(()) => {}
        Err(reply) => return reply.encode(out),
    }
    Reply::Ok.encode(out);
    for (key, item) in engine.store.cache.crawl(now) {
        if is_named(classes, item.class) {
            match kind {
                Dump::Items => put_item(engine, key, item, out),
                Dump::Keys => put_key(key, item, out),
            }
        }
    }
    match kind {
        Dump::Items => Reply::End.encode(out),
        Dump::Keys => Reply::Meta(MetaReply {
            status: MetaStatus::Miss,
            flags: ReplyFlags::list(&[]),
            data: b"",
        })
        .encode(out),
    }
}

fn put_item(engine: &Engine, key: &[u8], item: &Item, out: &mut BytesMut) {
    let base = engine.clock.base();
    let exp = match item.exptime {
        0 => -1,
        exptime => i64::try_from(base.unix(exptime)).unwrap_or(i64::MAX),
    };
    DumpedItem {
        key: UriKey::from_raw(key),
        facts: ItemMetadata {
            exp,
            last_access: base.unix(item.time),
            cas: item.cas,
            fetched: item.fetched,
            class: item.class.into(),
            size: item.size as u64,
        },
        client_flags: Some(item.client_flags),
        more: b"",
    }
    .encode(out);
}

fn put_key(key: &[u8], item: &Item, out: &mut BytesMut) {
    let shown = shown_key(key, item.binary_key);
    DumpedKey {
        key: &shown,
        base64: item.binary_key,
    }
    .encode(out);
}
