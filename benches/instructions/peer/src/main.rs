//! The program that `scripts/instructions` runs under callgrind: the parser of `async-memcached` on
//! the bytes of memlatch's case of the same name.

#[path = "../../src/marked.rs"]
mod marked;

use marked::Marked;
use memlatch_instructions_peer::{parse_meta_set_response, MetaResponse};
use std::hint::black_box;

const REPLY: &[u8] = b"HD c1234567890\r\n";

fn main() {
    let (length, response) = parse_meta_set_response(REPLY)
        .expect("well formed")
        .expect("complete");
    assert_eq!(length, REPLY.len());
    assert!(
        matches!(&response, MetaResponse::Data(Some(values)) if values[0].cas == Some(1_234_567_890))
    );

    Marked::from_args().run("decode/hd-cas", || {
        // The caller must free what the parser allocates for it, so that counts too.
        black_box(parse_meta_set_response(black_box(REPLY)).expect("well formed"));
    });
}
