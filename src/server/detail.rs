//! `stats detail`: what was asked for, by the part of the key in front of the first colon.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use bytes::BytesMut;
use core::fmt::Write as _;

/// More prefixes than this are not counted.
const PREFIXES: usize = 1 << 16;

#[derive(Debug, Default)]
pub(crate) struct Detail {
    pub(crate) enabled: bool,
    prefixes: BTreeMap<Box<[u8]>, Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    gets: u64,
    hits: u64,
    sets: u64,
    deletes: u64,
}

impl Detail {
    fn of(&mut self, key: &[u8]) -> Option<&mut Counts> {
        let end = memchr::memchr2(b':', 0, key).filter(|at| key[*at] == b':')?;
        let prefix = &key[..end];
        let is_new = !self.prefixes.contains_key(prefix);
        if !self.enabled || is_new && self.prefixes.len() >= PREFIXES {
            return None;
        }
        Some(self.prefixes.entry(prefix.into()).or_default())
    }

    pub(crate) fn got(&mut self, key: &[u8], hit: bool) {
        if let Some(counts) = self.of(key) {
            counts.gets += 1;
            counts.hits += u64::from(hit);
        }
    }

    pub(crate) fn stored(&mut self, key: &[u8]) {
        if let Some(counts) = self.of(key) {
            counts.sets += 1;
        }
    }

    pub(crate) fn deleted(&mut self, key: &[u8]) {
        if let Some(counts) = self.of(key) {
            counts.deletes += 1;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.prefixes.clear();
    }

    /// The lines of a dump, without its end. In the order of the prefixes; that of memcached
    /// follows from a hash.
    pub(crate) fn dump(&self, out: &mut BytesMut) {
        for (prefix, counts) in &self.prefixes {
            out.extend_from_slice(b"PREFIX ");
            out.extend_from_slice(prefix);
            let Counts {
                gets,
                hits,
                sets,
                deletes,
            } = counts;
            // A buffer that grows takes whatever is written.
            let _ = write!(out, " get {gets} hit {hits} set {sets} del {deletes}\r\n");
        }
    }
}
