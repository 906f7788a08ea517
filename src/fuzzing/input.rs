//! Bytes as a row of decisions.

/// Decisions, taken from the front of some bytes. At their end every decision is the first of its
/// kind, unless they are made to begin again.
#[derive(Debug, Clone)]
pub(super) struct Input<'a> {
    whole: &'a [u8],
    rest: &'a [u8],
    endless: bool,
}

impl<'a> Input<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            whole: bytes,
            rest: bytes,
            endless: false,
        }
    }

    /// Starts again at its end, so that a short input can drive a long test.
    pub(super) const fn endless(bytes: &'a [u8]) -> Self {
        Self {
            whole: bytes,
            rest: bytes,
            endless: true,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        if self.endless && self.rest.is_empty() {
            self.rest = self.whole;
        }
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    /// A number below `limit`, which is at most 256.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit.max(1)
    }

    pub(super) fn flip(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Any number; those at which something changes more often than others.
    pub(super) fn number(&mut self) -> u64 {
        let kind = self.byte();
        let low = u64::from(self.byte());
        match kind % 8 {
            0..=2 => low,
            3 => (1u64 << (low % 64)).wrapping_add(u64::from(self.byte())),
            4 => (1u64 << (low % 64)).wrapping_sub(u64::from(self.byte())),
            5 => u64::MAX - low,
            _ => {
                let mut bytes = [0; 8];
                bytes.iter_mut().for_each(|byte| *byte = self.byte());
                u64::from_le_bytes(bytes)
            }
        }
    }

    /// Up to `length` bytes as they are.
    pub(super) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// All bytes that are left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }
}

/// A number that differs from input to input, for what is not worth bytes of it.
pub(super) fn hash(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Chooses the places at which `length` bytes are cut into up to `parts` parts.
pub(super) fn cuts(length: usize, parts: usize, seed: u64) -> alloc::vec::Vec<usize> {
    let mut state = seed | 1;
    let mut cuts: alloc::vec::Vec<usize> = (1..parts)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 24).unwrap_or(0) % (length + 1)
        })
        .collect();
    cuts.push(length);
    cuts.sort_unstable();
    cuts
}
