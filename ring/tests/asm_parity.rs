//! The sync seam, the regions and the trust levels cost nothing: push and pop compile to the machine code of a twin
//! written by hand on core atomics (`asm/parity.rs`).
//!
//! The test builds the crate in its release profile, has the compiler print the assembly of the pairs, and compares
//! the paths that call nothing: those on which the private positions say that there is room, or a message.
#![cfg(all(feature = "std", not(loom), not(miri), target_arch = "x86_64"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Instructions that a path may be longer or shorter than that of its twin: what registers are chosen decides about
/// a move or two.
const SLACK: usize = 2;

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
}

/// Builds the crate as a user gets it and returns the directory of the libraries.
fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("asm_parity");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    // What this test run was built with is not what users build with.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        cargo.env_remove(name);
    }
    cargo.args([
        "build",
        "--release",
        "--offline",
        "--lib",
        "--package",
        "tidewire-ring",
        "--package",
        "tidewire-shm",
    ]);
    cargo.args(["--no-default-features", "--features", "tidewire-ring/alloc"]);
    run(cargo.arg("--target-dir").arg(&target));
    target.join("release")
}

/// The assembly of `asm/parity.rs`.
fn assembly() -> String {
    let libraries = build();
    let output = libraries.join("parity.s");
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "--crate-type", "lib", "--crate-name", "parity", "--emit", "asm"]);
    rustc.args(["-C", "opt-level=3", "-C", "codegen-units=1", "-C", "llvm-args=-x86-asm-syntax=intel"]);
    for name in ["tidewire_ring", "tidewire_shm"] {
        rustc.arg("--extern").arg(format!("{name}={}", libraries.join(format!("lib{name}.rlib")).display()));
    }
    rustc.arg("-L").arg(format!("dependency={}", libraries.join("deps").display()));
    rustc.arg("-o").arg(&output).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/asm/parity.rs"));
    run(&mut rustc);
    fs::read_to_string(output).unwrap()
}

/// The instructions of one function, and where its labels stand among them.
#[derive(Debug, Default)]
struct Function {
    instructions: Vec<String>,
    labels: BTreeMap<String, usize>,
}

/// Finds a function, also behind an alias or a jump to the one that it was merged with.
fn function(assembly: &str, name: &str) -> Function {
    for alias in [format!("{name} = "), format!(".set {name}, ")] {
        if let Some(other) = assembly.lines().find_map(|line| line.trim().strip_prefix(&alias)) {
            return function(assembly, other.trim());
        }
    }
    let mut function = Function::default();
    let start = format!("{name}:");
    for line in assembly.lines().skip_while(|line| *line != start).skip(1) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.starts_with(".Lfunc_end") {
            break;
        }
        if let Some(label) = line.strip_suffix(':') {
            function.labels.insert(label.to_owned(), function.instructions.len());
        } else if !line.is_empty() && !line.starts_with('.') {
            function.instructions.push(line.replace('\t', " "));
        }
    }
    assert!(!function.instructions.is_empty(), "no function {name} in the assembly");
    match function.instructions.as_slice() {
        [jump] if jump.starts_with("jmp ") => self::function(assembly, jump[4..].trim()),
        _ => function,
    }
}

impl Function {
    /// The instructions of each path from the start to a return that calls nothing and takes no jump twice.
    fn paths(&self) -> Vec<Vec<&str>> {
        let mut found = Vec::new();
        let mut open = vec![(0, Vec::new(), Vec::new())];
        while let Some((at, mut path, mut taken)) = open.pop() {
            let Some(instruction) = self.instructions.get(at) else { continue };
            let (mnemonic, operand) = instruction.split_once(' ').unwrap_or((instruction, ""));
            path.push(instruction.as_str());
            match mnemonic {
                "ret" | "retq" => found.push(path),
                "ud2" => {}
                _ if mnemonic.starts_with("call") => {}
                _ if mnemonic.starts_with('j') => {
                    if mnemonic != "jmp" {
                        open.push((at + 1, path.clone(), taken.clone()));
                    }
                    // A jump to another function is a call.
                    if let Some(target) = self.labels.get(operand.trim())
                        && !taken.contains(&at)
                    {
                        taken.push(at);
                        open.push((*target, path, taken));
                    }
                }
                _ => open.push((at + 1, path, taken)),
            }
            assert!(found.len() < 1000, "too many paths");
        }
        found
    }

    /// The shortest and the longest of the paths that call nothing.
    fn lengths(&self) -> (usize, usize) {
        let lengths: Vec<_> = self.paths().iter().map(Vec::len).collect();
        let none = "every path calls something";
        (*lengths.iter().min().expect(none), *lengths.iter().max().expect(none))
    }

    /// The first instruction that locks the bus or waits for the store buffer.
    fn barrier(&self) -> Option<&str> {
        let slow = ["lock", "xchg", "cmpxchg", "xadd", "mfence", "lfence", "sfence", "syscall", "cpuid"];
        let is_slow = |line: &&String| slow.iter().any(|name| line.split(' ').next() == Some(name));
        self.instructions.iter().find(is_slow).map(String::as_str)
    }
}

fn agree(ours: (usize, usize), twin: (usize, usize)) -> bool {
    ours.0.abs_diff(twin.0) <= SLACK && ours.1.abs_diff(twin.1) <= SLACK
}

#[test]
fn push_and_pop_are_the_code_of_a_twin_on_core_atomics() {
    let assembly = assembly();
    for operation in ["push", "pop"] {
        let twin = function(&assembly, &format!("twin_{operation}"));
        assert_eq!(twin.barrier(), None);
        for level in ["trusted", "untrusted"] {
            let ours = function(&assembly, &format!("{level}_{operation}"));
            assert_eq!(ours.barrier(), None, "{level} {operation}: {ours:#?}");
            assert!(
                agree(ours.lengths(), twin.lengths()),
                "{level} {operation} takes {:?} instructions, its twin {:?}: {:#?}\n{:#?}",
                ours.lengths(),
                twin.lengths(),
                ours.instructions,
                twin.instructions
            );
        }
        let trusted = function(&assembly, &format!("trusted_{operation}")).lengths();
        let untrusted = function(&assembly, &format!("untrusted_{operation}")).lengths();
        assert_eq!(trusted, untrusted, "a trust level costs something");
    }

    // The comparison sees what it is there for.
    assert!(function(&assembly, "control_push").barrier().is_some(), "a full barrier was not seen");
    let (control, twin) = (function(&assembly, "control_pop"), function(&assembly, "twin_pop"));
    assert!(!agree(control.lengths(), twin.lengths()), "eight more instructions were not seen");
}

#[test]
fn paths_end_at_calls_and_cover_branches() {
    let text = "f:\n\tcmp rax, 1\n\tje .L1\n\tadd rax, 1 # note\n\tret\n.L1:\n\tjne .L2\n\tcall g\n\tret\n.L2:\n\tjmp g\n.Lfunc_end0:\nh:\n\tjmp f\n.Lfunc_end1:\n.set k, f\nm = k\n";
    for name in ["f", "h", "k", "m"] {
        let function = function(text, name);
        assert_eq!(function.instructions.len(), 8);
        assert_eq!(function.paths(), [["cmp rax, 1", "je .L1", "add rax, 1", "ret"]]);
        assert_eq!(function.barrier(), None);
    }
    let locked = function("f:\n\tlock\tadd dword ptr [rax], 1\n\tret\n.Lfunc_end0:\n", "f");
    assert_eq!(locked.barrier(), Some("lock add dword ptr [rax], 1"));
}
