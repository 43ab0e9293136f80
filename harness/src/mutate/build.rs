//! Builds the models of the workspace.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{env, io};

use anyhow::{Result, anyhow, bail};

use super::Package;
use crate::verify::tool;

/// Builds the models of the packages, in a target directory of their own, and returns their binaries.
pub(super) fn models(root: &Path, packages: &[Package]) -> Result<Vec<PathBuf>> {
    let mut binaries = Vec::new();
    for package in packages {
        for test in package.tests {
            binaries.push(build(root, package.name, test)?);
        }
    }
    Ok(binaries)
}

fn build(root: &Path, package: &str, test: &str) -> Result<PathBuf> {
    let cargo = tool::cargo_name();
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    let flags = if flags.contains("--cfg loom") { flags } else { format!("{flags} --cfg loom") };
    let mut command = tool::cargo(root, "test");
    command
        .args(["--package", package, "--profile", "loom", "--test", test])
        .args(["--no-run", "--message-format", "json-render-diagnostics"])
        .arg("--target-dir")
        .arg(root.join("target").join("loom"))
        .env("RUSTFLAGS", flags.trim())
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let output = command.spawn().and_then(std::process::Child::wait_with_output);
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => anyhow!(
            "cannot build the models: expected cargo, found no program {}; --binary takes models that are built",
            cargo.display()
        ),
        _ => anyhow!("cannot run {}: {error}", cargo.display()),
    })?;
    if !output.status.success() {
        bail!("building the models {test} of {package}: expected success, found {}", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    executable(&messages, test)
        .ok_or_else(|| anyhow!("building the models {test} of {package}: expected a binary, found none"))
}

/// The binary that cargo's messages name for a test target.
fn executable(messages: &str, test: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let target = message.get("target")?;
        let of_test = target.get("name")?.as_str()? == test
            && target.get("kind")?.as_array()?.iter().any(|kind| kind.as_str() == Some("test"));
        of_test.then_some(())?;
        message.get("executable")?.as_str().map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_that_of_the_test_target() {
        let messages = r#"not json
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"loom_ring"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"other"},"executable":"/t/other-1"}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"loom_ring"},"executable":"/t/loom_ring-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "loom_ring"), Some(PathBuf::from("/t/loom_ring-1")));
        assert_eq!(executable(messages, "loom_mpsc"), None);
    }

    #[test]
    fn every_package_of_the_table_is_there() {
        let root = tool::workspace_root().unwrap();
        for package in super::super::PACKAGES {
            assert!(root.join(package.sources).is_dir(), "{}", package.name);
            for except in package.except {
                assert!(root.join(except).exists() && except.starts_with(package.sources), "{except}");
            }
            let folder = root.join(package.sources).with_file_name("tests");
            for test in package.tests {
                let places = [folder.join(format!("{test}.rs")), folder.join(test).join("main.rs")];
                assert!(places.iter().any(|place| place.is_file()), "{} has no {test}", package.name);
            }
        }
    }
}
