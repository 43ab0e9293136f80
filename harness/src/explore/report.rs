//! What the explorer says: rows, findings, errors, and the names of instructions.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;

use serde::Serialize;

use super::Mode;
use super::victim::Path;

/// One operation in one mode.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StepRow {
    /// The structure.
    pub(crate) structure: &'static str,
    /// The operation.
    pub(crate) operation: &'static str,
    /// The mode.
    pub(crate) mode: Mode,
    /// Runs, each to another point.
    pub(crate) points: u64,
    /// Distinct images among what they left: so often the survivors ran.
    pub(crate) images: u64,
    /// Points that are broken.
    pub(crate) bad: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// Points after which the operation in flight had not happened.
    #[serde(skip)]
    pub(crate) absent: u64,
    /// Points after which it had happened.
    #[serde(skip)]
    pub(crate) present: u64,
    /// The row ended early, after too many blocked children; some points were not visited.
    #[serde(skip)]
    pub(crate) cut: bool,
    /// The first bad points, described.
    #[serde(skip)]
    pub(crate) findings: Vec<Finding>,
}

/// All rows of one exploration.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    /// Rows.
    pub(crate) rows: u64,
    /// Points of all rows.
    pub(crate) points: u64,
    /// Images of all rows.
    pub(crate) images: u64,
    /// Bad points of all rows.
    pub(crate) bad: u64,
    /// How long it took.
    pub(crate) seconds: f64,
}

impl Summary {
    pub(super) fn add(&mut self, row: &StepRow) {
        self.rows += 1;
        self.points += row.points;
        self.images += row.images;
        self.bad += row.bad;
    }
}

/// A point that is broken. Its `Display` is the report for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The structure.
    pub(crate) structure: &'static str,
    /// The operation.
    pub(crate) operation: &'static str,
    /// The mode.
    pub(crate) mode: Mode,
    /// Where each actor stood: instruction number, symbol, disassembled line.
    pub(crate) places: Vec<String>,
    /// What is broken.
    pub(crate) verdict: String,
    /// The segment at that point: its lines that are not zero.
    pub(crate) image: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} ({}): {}", self.structure, self.operation, self.mode, self.verdict)?;
        for place in &self.places {
            writeln!(f, "  at {place}")?;
        }
        for line in self.image.lines() {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

/// Why the explorer could not explore.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum ExploreError {
    /// Only Linux on x86-64 is stepped.
    Unsupported,
    /// No operation has this name, or none of the chosen modes.
    Nothing {
        /// The structure that was asked for.
        structure: Option<String>,
        /// The operation that was asked for.
        operation: Option<String>,
    },
    /// The process has other threads, whose locks a forked child would inherit.
    Threads {
        /// How many there are.
        found: u64,
    },
    /// The kernel does not let a child be traced.
    Refused {
        /// What is known about why.
        why: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A system call failed.
    System {
        /// What was tried.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An operation could not be prepared or set up.
    SetUp {
        /// The structure.
        structure: &'static str,
        /// The operation.
        operation: &'static str,
        /// What it says.
        text: String,
    },
}

impl fmt::Display for ExploreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => write!(
                f,
                "the explorer steps machine code of linux on x86_64, this is {} on {}",
                std::env::consts::OS,
                std::env::consts::ARCH
            ),
            Self::Nothing { structure, operation } => {
                let any = "any".to_owned();
                let (structure, operation) =
                    (structure.as_ref().unwrap_or(&any), operation.as_ref().unwrap_or(&any));
                write!(f, "no operation to explore: expected structure {structure}, operation {operation}")
            }
            Self::Threads { found } => {
                write!(f, "the explorer forks, so it expects a process with 1 thread, found {found}")
            }
            Self::Refused { why, .. } => write!(f, "tracing a child is refused: {why}"),
            Self::System { call, .. } => write!(f, "{call} failed"),
            Self::SetUp { structure, operation, text } => {
                write!(f, "{structure} {operation} could not be set up: {text}")
            }
        }
    }
}

impl Error for ExploreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused { source, .. } | Self::System { source, .. } => Some(source),
            Self::Unsupported | Self::Nothing { .. } | Self::Threads { .. } | Self::SetUp { .. } => None,
        }
    }
}

/// One number of `/proc/self/status`.
fn status(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok())
}

/// Threads of this process; 0 if the kernel does not say.
pub(super) fn threads() -> u64 {
    status("Threads").unwrap_or(0)
}

/// What is known about a refused `PTRACE_TRACEME`.
pub(super) fn why_refused() -> String {
    let mut reasons = Vec::new();
    if let Ok(scope) = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope") {
        let scope = scope.trim();
        let meaning =
            if scope == "3" { "which forbids all tracing" } else { "which allows tracing own children" };
        reasons.push(format!("Yama's kernel.yama.ptrace_scope is {scope}, {meaning}"));
    } else {
        reasons.push("Yama is not active".to_owned());
    }
    match status("Seccomp") {
        Some(0) => reasons.push("no seccomp filter is active".to_owned()),
        Some(mode) => reasons.push(format!(
            "a seccomp filter is active (mode {mode}), which may forbid ptrace (run the container with SYS_PTRACE)"
        )),
        None => {}
    }
    match status("TracerPid") {
        Some(0) | None => {}
        Some(_) => {
            reasons.push("this process is traced itself, and its tracer may have taken the child".to_owned());
        }
    }
    reasons.join("; ")
}

/// Lines of an image that are not zero, at most 64 of them.
pub(super) fn dump(segment: &[u8]) -> String {
    const LINES: usize = 64;
    let mut text = String::new();
    let lines = segment.chunks(16).enumerate().filter(|(_, line)| line.iter().any(|&byte| byte != 0));
    for (shown, (number, line)) in lines.enumerate() {
        if shown == LINES {
            text.push_str("... more\n");
            break;
        }
        let _ = write!(text, "{:06x} ", number * 16);
        for byte in line {
            let _ = write!(text, " {byte:02x}");
        }
        text.push('\n');
    }
    if text.is_empty() {
        text.push_str("all zero\n");
    }
    text
}

/// A point of a path, for people: the system call, or symbol, source line and disassembled line of its instruction.
pub(super) fn place(actor: &str, point: usize, path: &Path) -> String {
    let (last, address) = (path.last(), path.address(point));
    if let Some((number, before)) = path.call(point) {
        let side = if before { "before" } else { "after" };
        return format!("{actor}, stop {point} of {last}: {side} the system call {}", call_name(number));
    }
    let mut text = format!("{actor}, instruction {point} of {last}: {address:#x}");
    if let Some(symbol) = symbol(address) {
        let _ = write!(text, " {symbol}");
    }
    if let Some(line) = disassembled(address) {
        let _ = write!(text, ": {line}");
    }
    text
}

/// The name of a system call that matters to files and memory, or its number.
fn call_name(number: libc::c_long) -> String {
    let name = match number {
        libc::SYS_openat => "openat",
        libc::SYS_linkat => "linkat",
        libc::SYS_unlinkat => "unlinkat",
        libc::SYS_renameat2 => "renameat2",
        libc::SYS_mkdirat => "mkdirat",
        libc::SYS_fchmod => "fchmod",
        libc::SYS_fchmodat => "fchmodat",
        libc::SYS_fallocate => "fallocate",
        libc::SYS_ftruncate => "ftruncate",
        libc::SYS_flock => "flock",
        libc::SYS_fstat => "fstat",
        libc::SYS_newfstatat => "newfstatat",
        libc::SYS_statx => "statx",
        libc::SYS_mmap => "mmap",
        libc::SYS_munmap => "munmap",
        libc::SYS_read => "read",
        libc::SYS_close => "close",
        libc::SYS_getdents64 => "getdents64",
        other => return format!("number {other}"),
    };
    name.to_owned()
}

/// Symbol + offset and source line of an address of this process (children share the layout).
fn symbol(address: u64) -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let (path, bias) = module(&maps, address)?;
    let loader = addr2line::Loader::new(&path).ok();
    let file = path.rsplit('/').next().unwrap_or_default();
    let within = address.checked_sub(bias)?;
    let symbol = loader.as_ref().and_then(|loader| loader.find_symbol_info(within));
    let mut text = match symbol {
        Some(symbol) => {
            let name = addr2line::demangle_auto(symbol.name().into(), None);
            format!("{name}+{:#x}", within.saturating_sub(symbol.address()))
        }
        None => format!("{file}+{within:#x}"),
    };
    let location = loader.as_ref().and_then(|loader| loader.find_location(within).ok().flatten());
    if let Some((file, line)) = location.and_then(|place| Some((place.file?.to_owned(), place.line?))) {
        let _ = write!(text, " ({file}:{line})");
    }
    Some(text)
}

/// The file that is mapped at `address`, and what its addresses are shifted by.
fn module(maps: &str, address: u64) -> Option<(String, u64)> {
    let mut first: Option<(&str, u64)> = None;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (from, to) = fields.next()?.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let Some(path) = fields.nth(4).filter(|path| path.starts_with('/')) else {
            continue;
        };
        if first.is_none_or(|(known, _)| known != path) {
            first = Some((path, from));
        }
        if (from..to).contains(&address) {
            let (path, start) = first?;
            return Some((path.to_owned(), start - linked_base(path)?));
        }
    }
    None
}

/// The address that the start of a file was linked for: zero when it can be mapped anywhere.
fn linked_base(path: &str) -> Option<u64> {
    const EXECUTABLE: u16 = 2;
    const LOAD: u32 = 1;
    let file = fs::File::open(path).ok()?;
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    let half = |at: usize| Some(u16::from_le_bytes(header.get(at..at + 2)?.try_into().ok()?));
    if half(16)? != EXECUTABLE {
        return Some(0);
    }
    let table = u64::from_le_bytes(header.get(32..40)?.try_into().ok()?);
    let (entry_bytes, entries) = (u64::from(half(54)?), u64::from(half(56)?));
    for entry in 0..entries {
        let mut segment = [0; 56];
        file.read_exact_at(&mut segment, table + entry * entry_bytes).ok()?;
        if u32::from_le_bytes(segment.get(0..4)?.try_into().ok()?) == LOAD {
            return Some(u64::from_le_bytes(segment.get(16..24)?.try_into().ok()?));
        }
    }
    None
}

/// The bytes of the instruction at `address`; fewer at the end of a mapping.
#[cfg(target_arch = "x86_64")]
pub(super) fn code(address: u64) -> Vec<u8> {
    let mut bytes = vec![0; 15];
    let read = fs::File::open("/proc/self/mem").and_then(|memory| memory.read_at(&mut bytes, address));
    bytes.truncate(read.unwrap_or(0));
    bytes
}

/// The instruction at `address`: its bytes and its text.
#[cfg(target_arch = "x86_64")]
fn disassembled(address: u64) -> Option<String> {
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
    let bytes = code(address);
    let mut decoder = Decoder::with_ip(64, &bytes, address, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let mut text = String::new();
    for byte in bytes.get(..instruction.len())? {
        let _ = write!(text, "{byte:02x} ");
    }
    IntelFormatter::new().format(&instruction, &mut text);
    Some(text)
}

/// Nothing is stepped on other architectures.
#[cfg(not(target_arch = "x86_64"))]
fn disassembled(_address: u64) -> Option<String> {
    None
}
