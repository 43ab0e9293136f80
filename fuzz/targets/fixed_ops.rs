//! Sequences of operations on rings of fixed slots, against a queue.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidewire_fuzz::fixed_ops(input));
