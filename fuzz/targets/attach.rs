//! Arbitrary bytes as a ring: refused or used, never a crash or a hang.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidewire_fuzz::attach(input));
