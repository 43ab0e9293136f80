//! Notes which compiler builds the benches: the report names it. Builds the borders to C++ peers.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    println!("cargo::rustc-env=BENCHES_RUSTC={}", version.unwrap_or_else(|_| "unknown".into()));
    println!("cargo::rustc-env=BENCHES_FLAGS={}", flags());
    println!("cargo::rustc-env=BENCHES_CPP={}", cpp());
}

fn flags() -> String {
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    flags.split('\x1f').filter(|flag| !flag.contains('/')).collect::<Vec<_>>().join(" ")
}

/// Builds what stands before the C++ libraries, and says which versions they have: those of Debian's packages.
#[cfg(feature = "peers-cpp")]
fn cpp() -> String {
    println!("cargo::rerun-if-changed=cpp");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(3).warnings(false);
    build.files(["cpp/queues.cpp", "cpp/message_queue.cpp"]).compile("benches_cpp");
    let packages = ["libboost-dev", "libreaderwriterqueue-dev", "libconcurrentqueue-dev"];
    let version = |package: &str| {
        let asked = Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).output();
        let said = asked.ok().filter(|output| output.status.success());
        said.map_or_else(
            || "unknown".into(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    packages.map(|package| format!("{package} {}", version(package))).join(",")
}

#[cfg(not(feature = "peers-cpp"))]
fn cpp() -> String {
    String::new()
}
