#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| memlatch::fuzzing::round_trip(data));
