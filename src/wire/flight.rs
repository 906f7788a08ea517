//! Requests that travel together.

use super::prepared::{Prepared, PreparedStore};
use super::request::{ReplyCount, ReplySyntax, Request};
use alloc::vec::Vec;
use bytes::BytesMut;
use core::fmt;

/// Requests that travel together, and what replies they will have.
///
/// One flight is one write and one round trip.
#[derive(Default, Clone)]
pub struct Flight {
    bytes: BytesMut,
    shapes: Vec<ReplyCount>,
    /// The end of the last request that has a reply. 0 <= `asked` <= bytes.
    asked: usize,
    /// A request with `q` has been pushed and no `mn` yet: which replies come until then cannot
    /// be known.
    quiet: bool,
    /// A request has been pushed whose answer is in another grammar than that of replies.
    foreign: bool,
}

/// Does not show the bytes: a password may be among them.
impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight")
            .field("bytes", &self.bytes.len())
            .field("shapes", &self.shapes)
            .finish_non_exhaustive()
    }
}

impl Flight {
    /// An empty flight.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a request.
    ///
    /// Behind requests with `q` there must be a `mn`; until it, all replies count as theirs.
    pub fn push(&mut self, request: &Request<'_>) {
        self.push_here(request);
    }

    /// As [`push`](Self::push), compiled into the caller, which knows the kind of request and then
    /// has no code for the others.
    #[expect(clippy::inline_always, reason = "that is what it is for")]
    #[inline(always)]
    pub(crate) fn push_here(&mut self, request: &Request<'_>) {
        request.encode_here(&mut self.bytes);
        self.foreign |= request.grammar() != ReplySyntax::Replies;
        if request.is_quiet() {
            self.quiet = true;
        } else if self.quiet && matches!(request, Request::MetaNoop) {
            self.quiet = false;
            self.expect(ReplyCount::UntilNoop);
        } else if let Some(shape) = request.shape() {
            self.expect(shape);
        }
    }

    /// Appends requests that were written beforehand, with these numbers in their gaps.
    #[inline]
    pub fn push_prepared<const GAPS: usize>(
        &mut self,
        requests: &Prepared<GAPS>,
        numbers: [u64; GAPS],
    ) {
        requests.encode(numbers, &mut self.bytes);
        if !self.quiet {
            for _ in 0..requests.requests() {
                self.shapes.push(ReplyCount::One);
            }
            self.asked = self.bytes.len();
        }
    }

    /// Appends a request that was written beforehand, with this expiry and value.
    ///
    /// # Panics
    /// When the value is over [`MAX_VALUE_LENGTH`](super::MAX_VALUE_LENGTH).
    #[inline]
    pub fn push_prepared_store(&mut self, request: &PreparedStore, exptime: i64, value: &[u8]) {
        request.encode(exptime, value, &mut self.bytes);
        self.expect(ReplyCount::One);
    }

    /// Notes the replies to the request that was pushed last. Until the `mn` after a request with
    /// `q`, all replies count as those of the `mn`.
    #[inline]
    fn expect(&mut self, shape: ReplyCount) {
        if !self.quiet {
            self.shapes.push(shape);
            self.asked = self.bytes.len();
        }
    }

    /// The number of its bytes that must have been sent before the last of its replies can come.
    #[must_use]
    pub const fn asked(&self) -> usize {
        self.asked
    }

    /// Returns `true` if the end of the replies can be recognised: every request with `q` has a
    /// `mn` after it, and no request asks for a dump or a log, which have decoders of their own
    /// (see [`Request::grammar`]).
    #[must_use]
    pub const fn is_answerable(&self) -> bool {
        !self.quiet && !self.foreign
    }

    /// The bytes to be written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The replies to be expected, in order.
    #[must_use]
    pub fn shapes(&self) -> &[ReplyCount] {
        &self.shapes
    }

    /// Empties the flight and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.shapes.clear();
        self.asked = 0;
        self.quiet = false;
        self.foreign = false;
    }

    /// Returns `true` if there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
