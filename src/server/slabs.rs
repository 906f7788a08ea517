//! Memory in pages, each cut into chunks of one size.
//!
//! As memcached's slab allocator with its default growth factor. A page that a class of chunks has
//! is never given to another class: the page mover is left out.

use alloc::vec::Vec;

/// The highest number a slab class can have.
pub(super) const HIGHEST_CLASS: u8 = 63;

/// The size of a page, as long as the memory limit is not below it.
const PAGE: usize = 1024 * 1024;

/// A page holds at least this much.
const SMALLEST_PAGE: usize = 192;

const SMALLEST_CHUNK: usize = 96;
const GROWTH: f64 = 1.25;
const ALIGNMENT: usize = 8;

/// Classes have numbers below this; 0 is none.
pub(crate) const CLASSES: usize = 64;

#[derive(Debug)]
pub(crate) struct SlabClass {
    pub(crate) chunk_size: usize,
    pub(crate) chunks_per_page: usize,
    pub(crate) pages: usize,
    pub(crate) free_chunks: usize,
}

#[derive(Debug)]
pub(crate) struct Slabs {
    classes: Vec<SlabClass>,
    page: usize,
    largest_item: usize,
    /// The memory of all pages.
    pub(crate) allocated: usize,
}

impl Slabs {
    pub(crate) fn new(memory: usize, largest_item: usize) -> Self {
        let page = memory.clamp(SMALLEST_PAGE, PAGE);
        let largest_chunk = (page / 2).min(largest_item.max(SMALLEST_CHUNK));
        let class = |chunk_size| SlabClass {
            chunk_size,
            chunks_per_page: page / chunk_size,
            pages: 0,
            free_chunks: 0,
        };
        let mut classes = Vec::new();
        let mut size = SMALLEST_CHUNK;
        while classes.len() < CLASSES - 2 && (size as f64) < largest_chunk as f64 / GROWTH {
            size = size.next_multiple_of(ALIGNMENT);
            classes.push(class(size));
            size = (size as f64 * GROWTH) as usize;
        }
        classes.push(class(largest_chunk));
        Self {
            classes,
            page,
            largest_item,
            allocated: 0,
        }
    }

    /// The classes by their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, &SlabClass)> {
        (1..).zip(&self.classes)
    }

    /// The highest number that a class has.
    pub(crate) fn largest_class(&self) -> u8 {
        self.classes.len() as u8
    }

    /// The size of the chunks that large items are made of.
    pub(crate) fn largest_chunk(&self) -> usize {
        self.classes.last().map_or(0, |class| class.chunk_size)
    }

    /// The class for something of this size, unless items may not be that large.
    pub(crate) fn class_of(&self, size: usize) -> Option<u8> {
        if size > self.largest_item {
            return None;
        }
        let fits = |(_, class): &(u8, &SlabClass)| size <= class.chunk_size;
        let class = self.iter().find(fits).map(|(number, _)| number);
        Some(class.unwrap_or_else(|| self.largest_class()))
    }

    fn class(&mut self, number: u8) -> &mut SlabClass {
        &mut self.classes[usize::from(number) - 1]
    }

    /// Takes a chunk of this class. Says whether there was one. The first page of a class is
    /// given whatever the limit.
    pub(crate) fn take(&mut self, class: u8, limit: usize) -> bool {
        let (page, allocated) = (self.page, self.allocated);
        let class = self.class(class);
        let mut grown = 0;
        if class.free_chunks == 0 && (class.pages == 0 || allocated + page <= limit) {
            class.pages += 1;
            class.free_chunks = class.chunks_per_page;
            grown = page;
        }
        let taken = class.free_chunks > 0;
        class.free_chunks -= usize::from(taken);
        self.allocated += grown;
        taken
    }

    pub(crate) fn give_back(&mut self, class: u8) {
        self.class(class).free_chunks += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `memcached -vv` of 1.6.45.
    #[test]
    fn slab_sizes_match_memcached() {
        let slabs = Slabs::new(64 << 20, 1 << 20);
        let sizes: Vec<usize> = slabs.iter().map(|(_, class)| class.chunk_size).collect();
        assert_eq!(sizes[..8], [96, 120, 152, 192, 240, 304, 384, 480]);
        assert_eq!(sizes[36..], [315_872, 394_840, 524_288]);
        assert_eq!(slabs.largest_class(), 39);
        assert_eq!(slabs.class_of(96), Some(1));
        assert_eq!(slabs.class_of(97), Some(2));
        assert_eq!(slabs.class_of(1 << 20), Some(39));
        assert_eq!(slabs.class_of((1 << 20) + 1), None);
    }

    #[test]
    fn every_class_has_a_page() {
        let mut slabs = Slabs::new(1 << 20, 1 << 20);
        for _ in 0..(1 << 20) / 96 {
            assert!(slabs.take(1, 1 << 20));
        }
        assert!(!slabs.take(1, 1 << 20));
        assert!(slabs.take(39, 1 << 20) && slabs.take(39, 1 << 20));
        assert!(!slabs.take(39, 1 << 20));
        slabs.give_back(1);
        assert!(slabs.take(1, 1 << 20));
    }
}
