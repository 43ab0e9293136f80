//! Rings.
#![cfg_attr(not(any(loom, test, feature = "std")), no_std)]
