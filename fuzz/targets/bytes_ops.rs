//! Sequences of operations on rings of byte records, against a queue.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidewire_fuzz::bytes_ops(input));
