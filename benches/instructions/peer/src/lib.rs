//! The parser of `async-memcached`. A library, as it is for its consumers, so that nothing is
//! inlined into the measuring that would not be there.

// Written by build.rs. Not for tests: that source has some, which need more than is here.
#[cfg(not(test))]
include!(concat!(env!("OUT_DIR"), "/peer.rs"));
