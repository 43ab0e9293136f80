//! The texts of the errors with which the derive refuses a struct. `TRYBUILD=overwrite` writes them anew.
#![cfg(not(any(miri, loom)))]

use std::process::Command;

/// The compiler whose own words stand in the expected texts of `rustc_*.rs`; every other has words of its own.
const WORDED_BY: &str = "rustc 1.95.";

#[test]
fn what_is_refused_is_explained() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/accepted.rs");
    // All the words of these are the derive's.
    cases.compile_fail("tests/ui/derive_*.rs");
    if compiler().starts_with(WORDED_BY) {
        cases.compile_fail("tests/ui/rustc_*.rs");
    }
}

fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("a compiler that says its version");
    String::from_utf8(version.stdout).expect("a version is text")
}
