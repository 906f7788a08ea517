//! Which replies a request may have.

use memlatch::wire::{
    DumpLine, ErrorReply, Flag, Flags, Key, Keys, Limits, MetaReply, MetaStatus, MetadumpDecoder,
    MgdumpDecoder, Reply, ReplyDecoder, ReplyFlag, ReplySyntax, Request, RequestDecoder, StoreVerb,
    WatchDecoder, WatchLine,
};

/// What becomes of one request of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Told<'a> {
    /// Executed. The bytes it was read from.
    Request(Request<'a>, &'a [u8]),
    /// Not executed, with this answer or none.
    Refused(Option<ErrorReply<'static>>),
}

/// Every request in these bytes.
pub(crate) fn requests(bytes: &[u8], limits: Limits) -> Vec<Told<'_>> {
    let mut decoder = RequestDecoder::new(limits);
    let (mut rest, mut told) = (bytes, Vec::new());
    while !rest.is_empty() {
        match decoder.decode(rest) {
            Ok(None) => break,
            Ok(Some((request, length))) => {
                told.push(Told::Request(request, &rest[..length]));
                rest = &rest[length..];
            }
            Err(refusal) => {
                told.push(Told::Refused(refusal.reply));
                if refusal.close {
                    break;
                }
                rest = &rest[refusal.skip.min(rest.len())..];
            }
        }
    }
    told
}

/// What arrives, in two parts, and how much of it is understood already.
struct Arriving<'a> {
    bytes: &'a [u8],
    split: usize,
    at: usize,
}

impl<'a> Arriving<'a> {
    /// Asks the decoder with the first part, and if that is not enough with all.
    fn next<T>(
        &mut self,
        mut decode: impl FnMut(&'a [u8]) -> Result<Option<(T, usize)>, memlatch::wire::DecodeError>,
    ) -> Result<Option<T>, String> {
        for end in [self.split, self.bytes.len()] {
            if end < self.at {
                continue;
            }
            match decode(&self.bytes[self.at..end]) {
                Ok(None) => {}
                Ok(Some((found, length))) => {
                    self.at += length;
                    return Ok(Some(found));
                }
                Err(error) => return Err(format!("{error} at byte {}", self.at)),
            }
        }
        Ok(None)
    }

    fn peek(&self) -> Option<Reply<'a>> {
        let whole = ReplyDecoder::new(Limits::SERVER).decode(&self.bytes[self.at..]);
        whole.ok().flatten().map(|(reply, _)| reply)
    }

    fn reply(&mut self) -> Result<Reply<'a>, String> {
        let mut decoder = ReplyDecoder::new(Limits::SERVER);
        let reply = self.next(|bytes| decoder.decode(bytes))?;
        reply.ok_or_else(|| format!("nothing more at byte {}", self.at))
    }
}

/// How a row is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Whether the server reads the row as the parser does. Older ones refuse other things, in
    /// other words, and may take what follows for requests.
    pub(crate) as_the_parser: bool,
    /// Whether the server wants a password: until it is satisfied, only the last answer to what
    /// comes together is given.
    pub(crate) password: bool,
}

/// Reads all of `response`, which arrives in two parts, as the answers to these requests.
pub(crate) fn understand(
    told: &[Told<'_>],
    response: &[u8],
    split: usize,
    rules: Rules,
) -> Result<(), String> {
    let mut arriving = Arriving {
        bytes: response,
        split,
        at: 0,
    };
    if !rules.as_the_parser {
        while arriving.at < response.len() {
            arriving.reply()?;
        }
        return Ok(());
    }
    for told in told {
        match told {
            Told::Refused(None) => {}
            Told::Refused(Some(error)) => match arriving.reply()? {
                Reply::Error(found) if found == *error => {}
                other => return Err(format!("{other:?} instead of {error:?}")),
            },
            Told::Request(request, _) => answer(request, &mut arriving, rules)?,
        }
    }
    match response.len() - arriving.at {
        0 => Ok(()),
        left => Err(format!("{left} bytes belong to no request")),
    }
}

fn answer(request: &Request<'_>, arriving: &mut Arriving<'_>, rules: Rules) -> Result<(), String> {
    match request.grammar() {
        ReplySyntax::Replies => replies(request, arriving, rules),
        ReplySyntax::Metadump => {
            let mut decoder = MetadumpDecoder::new(Limits::SERVER);
            while let Some(line) = arriving.next(|bytes| decoder.decode(bytes))? {
                match line {
                    DumpLine::Started | DumpLine::Item(_) => {}
                    _ => return Ok(()),
                }
            }
            Err("a dump without an end".into())
        }
        ReplySyntax::Mgdump => {
            let mut decoder = MgdumpDecoder::new(Limits::SERVER);
            while let Some(line) = arriving.next(|bytes| decoder.decode(bytes))? {
                match line {
                    DumpLine::Started | DumpLine::Item(_) => {}
                    _ => return Ok(()),
                }
            }
            Err("a dump without an end".into())
        }
        ReplySyntax::Watch => {
            let mut decoder = WatchDecoder::new(Limits::SERVER);
            let mut started = false;
            while let Some(line) = arriving.next(|bytes| decoder.decode(bytes))? {
                match line {
                    WatchLine::Started if !started => started = true,
                    WatchLine::Event(_) | WatchLine::Skipped(_) if started => {}
                    WatchLine::Declined(_) | WatchLine::Error(_) if !started => return Ok(()),
                    other => return Err(format!("{other:?} in a log")),
                }
            }
            Ok(())
        }
        other => Err(format!("{other:?} is new")),
    }
}

fn replies(request: &Request<'_>, arriving: &mut Arriving<'_>, rules: Rules) -> Result<(), String> {
    if request.shape().is_none() {
        // Silent when it went well; with `q` some speak nonetheless, and a client that may not shut
        // the server down gets an error.
        let may_speak = request.is_quiet() || matches!(request, Request::Shutdown { .. });
        let speaks = may_speak
            && arriving
                .peek()
                .is_some_and(|reply| fits(request, &reply) != Fit::No);
        if speaks {
            arriving.reply()?;
        }
        return Ok(());
    }
    if rules.password
        && arriving
            .peek()
            .is_none_or(|reply| fits(request, &reply) == Fit::No)
    {
        return Ok(());
    }
    loop {
        let reply = arriving.reply()?;
        match fits(request, &reply) {
            Fit::No => return Err(format!("{reply:?} for {request:?}")),
            Fit::Last => return Ok(()),
            Fit::More => {}
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    No,
    /// One of several.
    More,
    Last,
}

/// Whether this can be an answer to that.
fn fits(request: &Request<'_>, reply: &Reply<'_>) -> Fit {
    let last = |yes: bool| if yes { Fit::Last } else { Fit::No };
    if matches!(reply, Reply::Error(_)) {
        return Fit::Last;
    }
    match (request, reply) {
        (
            Request::Get { with_cas, keys } | Request::GetAndTouch { with_cas, keys, .. },
            Reply::Value(value),
        ) => {
            let asked_for = among(*keys, value.key) && value.cas.is_some() == *with_cas;
            if asked_for { Fit::More } else { Fit::No }
        }
        (Request::Get { .. } | Request::GetAndTouch { .. }, reply) => last(*reply == Reply::End),
        (Request::Store(store), reply) => last(match store.verb {
            StoreVerb::Set => matches!(reply, Reply::Stored),
            StoreVerb::Cas(_) => matches!(reply, Reply::Stored | Reply::Exists | Reply::NotFound),
            _ => matches!(reply, Reply::Stored | Reply::NotStored),
        }),
        (Request::Delete { .. }, reply) => last(matches!(reply, Reply::Deleted | Reply::NotFound)),
        (Request::Touch { .. }, reply) => last(matches!(reply, Reply::Touched | Reply::NotFound)),
        (Request::Arithmetic { .. }, reply) => {
            last(matches!(reply, Reply::Number(_) | Reply::NotFound))
        }
        (Request::MetaGet { key, flags }, Reply::Meta(meta)) => last(meta_fits(
            *key,
            *flags,
            meta,
            &[MetaStatus::Done, MetaStatus::Value, MetaStatus::Miss],
        )),
        (Request::MetaSet { key, flags, .. }, Reply::Meta(meta)) => last(meta_fits(
            *key,
            *flags,
            meta,
            &[
                MetaStatus::Done,
                MetaStatus::NotStored,
                MetaStatus::Exists,
                MetaStatus::NotFound,
            ],
        )),
        (Request::MetaDelete { key, flags }, Reply::Meta(meta)) => last(meta_fits(
            *key,
            *flags,
            meta,
            &[MetaStatus::Done, MetaStatus::Exists, MetaStatus::NotFound],
        )),
        (Request::MetaArithmetic { key, flags }, Reply::Meta(meta)) => last(meta_fits(
            *key,
            *flags,
            meta,
            &[
                MetaStatus::Done,
                MetaStatus::Value,
                MetaStatus::NotStored,
                MetaStatus::Exists,
                MetaStatus::NotFound,
            ],
        )),
        (Request::MetaNoop, reply) => last(*reply == Reply::Noop),
        (Request::MetaDebug { key, .. }, Reply::Debug(line)) => {
            let item = memlatch::wire::DebugItem::parse(line);
            last(item.is_some_and(|item| item.key == key.as_bytes()))
        }
        (Request::MetaDebug { .. }, Reply::Meta(meta)) => last(meta.status == MetaStatus::Miss),
        (Request::Version, reply) => last(matches!(reply, Reply::Version(_))),
        (Request::Stats { .. }, Reply::Stat { .. }) => Fit::More,
        (Request::Stats { .. }, reply) => {
            last(matches!(reply, Reply::End | Reply::Reset | Reply::Ok))
        }
        (
            Request::Verbosity { .. }
            | Request::FlushAll { .. }
            | Request::CacheMemlimit { .. }
            | Request::Lru { .. }
            | Request::LruCrawler(_)
            | Request::Slabs(_)
            | Request::RefreshCerts,
            reply,
        ) => last(matches!(reply, Reply::Ok | Reply::Declined(_))),
        _ => Fit::No,
    }
}

fn among(keys: Keys<'_>, key: &[u8]) -> bool {
    keys.iter().any(|asked_for| asked_for.as_bytes() == key)
}

/// Whether the status is one of these, and every returned flag was asked for.
fn meta_fits(
    key: Key<'_>,
    flags: Flags<'_>,
    reply: &MetaReply<'_>,
    statuses: &[MetaStatus],
) -> bool {
    let wants_value = reply.status != MetaStatus::Value || flags.has(b'v');
    statuses.contains(&reply.status)
        && wants_value
        && reply.flags.iter().all(|flag| match flag {
            ReplyFlag::Won | ReplyFlag::Stale | ReplyFlag::WonBefore => true,
            ReplyFlag::Base64 => flags.has(b'b') && flags.has(b'k'),
            ReplyFlag::Cas(_) => flags.has(b'c'),
            ReplyFlag::ClientFlags(_) => flags.has(b'f'),
            ReplyFlag::Hit(_) => flags.has(b'h'),
            // What comes back of a base64 key may be what it stands for.
            ReplyFlag::Key(shown) => {
                flags.has(b'k') && (flags.has(b'b') || shown == key.as_bytes())
            }
            ReplyFlag::LastAccess(_) => flags.has(b'l'),
            ReplyFlag::Opaque(token) => flags
                .iter()
                .any(|flag| matches!(flag, Flag::Opaque(sent) if sent.as_bytes() == token)),
            ReplyFlag::Size(_) => flags.has(b's'),
            ReplyFlag::Ttl(_) => flags.has(b't'),
            _ => false,
        })
}
