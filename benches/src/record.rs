//! What a run leaves behind: every sample, and on what it was taken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::cells::{Cell, Entry, Group, Kind};
use crate::pair::Mode;
use crate::peers;
use crate::probe::Regime;

/// How a run was set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Its name: quick, default or full.
    pub name: String,
    /// The options that ask for it again; a line for each run, where several were added up.
    pub options: String,
    /// How often each contender takes its turn.
    pub rounds: u32,
    /// Milliseconds of a sample's window.
    pub window_ms: u64,
    /// Between what.
    pub modes: Vec<Mode>,
}

impl Settings {
    fn new(name: &str, rounds: u32, window_ms: u64) -> Self {
        let modes = vec![Mode::Processes, Mode::Threads];
        Self { name: name.to_owned(), options: String::new(), rounds, window_ms, modes }
    }

    /// Few rounds, short windows.
    #[must_use]
    pub fn quick() -> Self {
        Self::new("quick", 4, 20)
    }

    /// What one gets without asking.
    #[must_use]
    pub fn usual() -> Self {
        Self::new("default", 7, 40)
    }

    /// Many rounds, long windows.
    #[must_use]
    pub fn full() -> Self {
        Self::new("full", 15, 60)
    }
}

/// What a run was made on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Family, model and stepping: names are vague in virtual machines.
    pub cpu_id: String,
    /// Processors that the run may use.
    pub cores: usize,
    /// Whether a hypervisor lies below.
    pub virtual_machine: bool,
    /// The kernel's release.
    pub kernel: String,
    /// The compiler.
    pub rustc: String,
    /// Its extra flags.
    pub rust_flags: String,
    /// Packages of the contenders and their versions.
    pub peers: Vec<(String, String)>,
    /// The load average of the last minute when the run began.
    pub load: String,
}

/// What a sample measured; what its kind does not measure is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Messages per second.
    pub rate: f64,
    /// Messages per second in the first ten milliseconds.
    pub first_rate: f64,
    /// Mean of the lowest nine tenths.
    pub mean_ns: f64,
    /// Median.
    pub p50_ns: f64,
    /// 99th percentile.
    pub p99_ns: f64,
    /// 99.9th percentile.
    pub p999_ns: f64,
    /// The longest.
    pub max_ns: f64,
    /// Messages measured.
    pub count: f64,
    /// How many cores all sides of a crowd had together.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cores: f64,
    /// Messages of the last of many producers over those of the first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fairness: f64,
    /// Writes per second beside the reads.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub writes: f64,
    /// Repeated attempts per read; below zero if the cell does not say.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: f64,
    /// Reads that were not whole, of what does not promise it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub torn: f64,
    /// A read with nobody else there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub read_alone_ns: f64,
    /// A write with nobody else there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub write_alone_ns: f64,
    /// What the clock shows for nothing at all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nothing_ns: f64,
    /// System calls of both sides per million messages; below zero if they could not be counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub calls: f64,
    /// Whether a receiver was told of its sender's death: 1, or -1; 0 if that was not asked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub told: f64,
    /// Memory of both sides for their first channel, in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first_own_bytes: f64,
    /// Memory between both sides for it, in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first_shared_bytes: f64,
    /// Memory of both sides for each further channel, in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub own_bytes: f64,
    /// Memory between both sides for it, in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shared_bytes: f64,
    /// Seconds of a build.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seconds: f64,
    /// Seconds that its processes had.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cpu_seconds: f64,
    /// Packages that were built.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub crates: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the serializer passes a reference")]
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// The cell's name.
    pub cell: String,
    /// The contender's name.
    pub contender: String,
    /// Between what.
    pub mode: Mode,
    /// The round.
    pub round: u32,
    /// Round trip of one line, before and after.
    pub line_ns: [f64; 2],
    /// Round trip of two lines, before and after.
    pub floor_ns: [f64; 2],
    /// Which share of the time the sides had their cores: that of the worse one.
    pub core_share: f64,
    /// The regime; none if the probes disagree or a side was disturbed, and then the sample does not count.
    pub regime: Option<Regime>,
    /// What was measured.
    pub measured: Measured,
}

impl SampleRecord {
    /// Round trip of one line: the mean of both probes.
    #[must_use]
    pub fn line(&self) -> f64 {
        self.line_ns.iter().sum::<f64>() / 2.0
    }

    /// Round trip of two lines: the mean of both probes.
    #[must_use]
    pub fn floor(&self) -> f64 {
        self.floor_ns.iter().sum::<f64>() / 2.0
    }
}

/// A contender that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The cell's name.
    pub cell: String,
    /// The contender's name.
    pub contender: String,
    /// Between what.
    pub mode: Mode,
    /// What it did.
    pub reason: String,
}

impl Rejected {
    /// Notes a failure.
    #[must_use]
    pub fn new(cell: &Cell, entry: &Entry, mode: Mode, error: &anyhow::Error) -> Self {
        Self {
            cell: cell.name.clone(),
            contender: entry.contender.to_owned(),
            mode,
            reason: format!("{error:#}"),
        }
    }
}

/// A cell as the record describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellRecord {
    /// Which structure it is about; old records only have rings.
    #[serde(default)]
    pub group: Group,
    /// Its name.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// What its numbers mean.
    pub kind: Kind,
    /// Bytes of a message; 0 if they differ.
    pub payload_bytes: usize,
    /// Whom ratios are formed to.
    pub reference: String,
    /// Who takes part, in the order of the table.
    pub contenders: Vec<String>,
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The day, and the time of day (UTC).
    pub date: String,
    /// On what.
    pub machine: Machine,
    /// How.
    pub settings: Settings,
    /// The cells.
    pub cells: Vec<CellRecord>,
    /// The samples.
    pub samples: Vec<SampleRecord>,
    /// Who failed.
    pub rejected: Vec<Rejected>,
}

impl CellRecord {
    /// Describes a cell.
    #[must_use]
    pub fn new(cell: &Cell) -> Self {
        Self {
            group: cell.group,
            name: cell.name.clone(),
            title: cell.title.clone(),
            kind: cell.kind,
            payload_bytes: cell.payload_bytes,
            reference: cell.reference.to_owned(),
            contenders: cell.entries.iter().map(|entry| entry.contender.to_owned()).collect(),
        }
    }
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
            let value = line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned());
            value.unwrap_or_else(|| "unknown".to_owned())
        };
        let id = ["cpu family", "model", "stepping"].map(field).join("/");
        Self {
            cpu: field("model name"),
            cpu_id: id,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            virtual_machine: field("flags").split_whitespace().any(|flag| flag == "hypervisor"),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            rustc: env!("BENCHES_RUSTC").to_owned(),
            rust_flags: env!("BENCHES_FLAGS").to_owned(),
            peers: peer_versions(),
            load: load(),
        }
    }

    /// A name for files.
    #[must_use]
    pub fn slug(&self) -> String {
        let name = format!("{} {}", self.cpu, self.cpu_id);
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let mut slug: String = name.chars().map(plain).collect();
        while slug.contains("--") {
            slug = slug.replace("--", "-");
        }
        slug.trim_matches('-').to_owned()
    }
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// The versions of the peers: those that the lock file names, and those of packages of the system.
fn peer_versions() -> Vec<(String, String)> {
    let lock = include_str!("../../Cargo.lock");
    let mut found = Vec::new();
    for name in peers::PACKAGES {
        let head = format!("name = \"{name}\"\nversion = \"");
        for rest in lock.split(head.as_str()).skip(1) {
            let version = rest.split('"').next().unwrap_or("unknown");
            found.push((name.to_owned(), version.to_owned()));
        }
    }
    // Those of C++ are not in it.
    let cpp = env!("BENCHES_CPP").split(',').filter_map(|package| package.split_once(' '));
    found.extend(cpp.map(|(name, version)| (name.to_owned(), version.to_owned())));
    found
}

/// The day and time, UTC.
///
/// # Errors
/// If there is no `date` to ask.
pub fn now() -> anyhow::Result<String> {
    let output =
        Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().context("ask for the date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The top of the source tree.
#[must_use]
pub fn top() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

impl Record {
    /// The groups that it has cells of.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let has = |group: &Group| self.cells.iter().any(|cell| cell.group == *group);
        Group::ALL.into_iter().filter(has).collect()
    }

    /// Where the record of this run belongs in the tree: one file a day, or one for each group that was run alone.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let mut name = self.date.split('T').next().unwrap_or("undated").to_owned();
        let groups = self.groups();
        if !Group::USUAL.iter().all(|group| groups.contains(group)) {
            for group in groups {
                name = format!("{name}-{}", group.name());
            }
        }
        top().join("benches/record").join(self.machine.slug()).join(name + ".json")
    }

    /// Adds what another run measured on the same machine; its rounds come behind ours.
    ///
    /// # Errors
    /// If the other run was made on another machine.
    pub fn add(&mut self, other: Self) -> anyhow::Result<()> {
        ensure!(
            other.machine.slug() == self.machine.slug(),
            "expected a record of {}, found one of {}",
            self.machine.slug(),
            other.machine.slug()
        );
        if other.date != self.date {
            self.date = format!("{}, {}", self.date, other.date);
        }
        if self.settings.rounds != other.settings.rounds
            || self.settings.window_ms != other.settings.window_ms
        {
            let theirs = format!(" and {} ({} rounds)", other.settings.name, other.settings.rounds);
            if !self.settings.name.contains(&theirs) {
                self.settings.name += &theirs;
            }
        }
        let known: Vec<&str> = self.settings.options.lines().collect();
        let new: Vec<&str> = other.settings.options.lines().filter(|line| !known.contains(line)).collect();
        self.settings.options = [known, new].concat().join("\n");
        for (name, version) in other.machine.peers {
            if !self.machine.peers.iter().any(|known| *known == (name.clone(), version.clone())) {
                self.machine.peers.push((name, version));
            }
        }
        let after = self.samples.iter().map(|sample| sample.round + 1).max().unwrap_or(0);
        for cell in other.cells {
            match self.cells.iter_mut().find(|known| known.name == cell.name) {
                Some(known) => {
                    let new = cell.contenders.into_iter().filter(|name| !known.contenders.contains(name));
                    let new: Vec<String> = new.collect();
                    known.contenders.extend(new);
                }
                None => self.cells.push(cell),
            }
        }
        self.cells.sort_by_key(|cell| cell.group);
        self.samples.extend(other.samples.into_iter().map(|mut sample| {
            sample.round += after;
            sample
        }));
        self.rejected.extend(other.rejected);
        Ok(())
    }

    /// Adds the newest records of those groups that this one says nothing about, where this machine has any.
    ///
    /// # Errors
    /// What the file system says, or where a file there is no record.
    pub fn complete(&mut self) -> anyhow::Result<()> {
        let own = self.path();
        let Some(folder) = own.parent().filter(|folder| folder.is_dir()) else { return Ok(()) };
        let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
        let mut others = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
            if path.extension().is_some_and(|extension| extension == "json") && path != own {
                others.push(Self::read(&path)?);
            }
        }
        self.complete_from(others)
    }

    /// As [`complete`](Self::complete), with these.
    ///
    /// # Errors
    /// If one of them was made on another machine.
    pub fn complete_from(&mut self, mut others: Vec<Self>) -> anyhow::Result<()> {
        others.sort_by(|a, b| b.date.cmp(&a.date));
        for mut other in others {
            let known = self.groups();
            other.cells.retain(|cell| !known.contains(&cell.group));
            let is_new = |name: &String| other.cells.iter().any(|cell| cell.name == *name);
            other.samples.retain(|sample| is_new(&sample.cell));
            other.rejected.retain(|rejected| is_new(&rejected.cell));
            if !other.cells.is_empty() {
                self.add(other)?;
            }
        }
        Ok(())
    }

    /// Writes the record.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        let text = serde_json::to_string(self)?;
        // One sample a line: small, and differences can be read.
        let text = text.replace("{\"cell\":", "\n{\"cell\":");
        fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// What the file system says, or where the text is no record.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))
    }
}
