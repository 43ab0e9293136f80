//! Runs models, each in a process of its own: unchanged to record what they reach, then under mutants.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use anyhow::{Context as _, Result, bail};

use super::judge::Reached;
use super::site::{Order, Site};

/// How a model ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Passed,
    Failed,
    TimedOut,
}

/// A model and what it did unchanged.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) binary: PathBuf,
    pub(super) name: String,
    pub(super) time: Duration,
    pub(super) fate: Fate,
    pub(super) sites: Vec<Site>,
    /// What is wrong with its record.
    pub(super) unreadable: Vec<String>,
}

/// A mutant that was tried.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    /// The number of its site.
    pub(super) site: usize,
    pub(super) to: Order,
    /// The model that failed.
    pub(super) killer: Option<usize>,
    /// The last model that did not end.
    pub(super) timed_out: Option<usize>,
}

/// How models are run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runner {
    /// The preemption bound that decides about a survivor.
    pub(super) preemptions: u32,
    pub(super) timeout: Duration,
    pub(super) jobs: usize,
}

/// A folder for records, removed with everything in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        // ORD own: Relaxed, a counter of this process: each folder has a name of its own.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("tidewire-mutate-{}-{number}", process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

impl Runner {
    /// The preemption bound that kills most mutants, in a tenth of the time.
    pub(super) fn quick(&self) -> u32 {
        self.preemptions.min(1)
    }

    /// Runs every model of every binary unchanged, and records what it reaches.
    pub(super) fn baseline(&self, binaries: &[PathBuf], preemptions: u32) -> Result<Vec<Model>> {
        let mut jobs = Vec::new();
        for binary in binaries {
            jobs.extend(list(binary)?.into_iter().map(|name| (binary.clone(), name)));
        }
        if jobs.is_empty() {
            bail!("expected at least one model, found none in {binaries:?}: was it built with `--cfg loom`?");
        }
        let scratch = Scratch::new()?;
        let models = self.each(jobs.len(), |number| {
            let (binary, name) = jobs.get(number)?;
            let record = scratch.0.join(number.to_string());
            let start = Instant::now();
            let fate = self.run((binary, name), preemptions, "TIDEWIRE_ORD_RECORD", record.as_os_str());
            let time = start.elapsed();
            Some(fate.map(|fate| {
                let (sites, unreadable) = read_record(&record);
                Model { binary: binary.clone(), name: name.clone(), time, fate, sites, unreadable }
            }))
        });
        models.into_iter().flatten().collect()
    }

    /// Tries every mutant of every site, level by level: a weaker level only if one of the level before survived.
    pub(super) fn mutants(&self, models: &[Model], sites: &[Reached]) -> Result<Vec<Tried>> {
        let tried = self.each(sites.len(), |number| {
            let reached = sites.get(number)?;
            let mut tried = Vec::new();
            for level in reached.site.order.levels(reached.site.kind) {
                let before = tried.len();
                for to in *level {
                    match self.mutant(models, number, reached, *to) {
                        Ok(result) => tried.push(result),
                        Err(error) => return Some(Err(error)),
                    }
                }
                if tried.iter().skip(before).all(|tried: &Tried| tried.killer.is_some()) {
                    break;
                }
            }
            Some(Ok(tried))
        });
        let tried: Result<Vec<_>> = tried.into_iter().flatten().collect();
        Ok(tried?.into_iter().flatten().collect())
    }

    fn mutant(&self, models: &[Model], number: usize, reached: &Reached, to: Order) -> Result<Tried> {
        let mut tried = Tried { site: number, to, killer: None, timed_out: None };
        let value = reached.site.mutant(to);
        let bounds = [self.quick(), self.preemptions];
        let bounds = if self.quick() == self.preemptions { bounds.get(..1) } else { bounds.get(..) };
        for (bound, number) in
            bounds.into_iter().flatten().flat_map(|b| reached.models.iter().map(move |m| (b, m)))
        {
            let Some(model) = models.get(*number) else { continue };
            let variable = "TIDEWIRE_ORD_MUTANT";
            match self.run((&model.binary, &model.name), *bound, variable, value.as_ref())? {
                Fate::Failed => {
                    tried.killer = Some(*number);
                    break;
                }
                Fate::TimedOut => tried.timed_out = Some(*number),
                Fate::Passed => {}
            }
        }
        Ok(tried)
    }

    /// Does `count` jobs, as many at a time as may be, and returns the results in order.
    fn each<R: Send>(&self, count: usize, job: impl Fn(usize) -> R + Sync) -> Vec<R> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::with_capacity(count));
        thread::scope(|scope| {
            for _ in 0..self.jobs.min(count) {
                scope.spawn(|| {
                    loop {
                        // ORD own: Relaxed, a counter; the end of the scope hands the results over.
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        let result = job(number);
                        if let Ok(mut results) = results.lock() {
                            results.push((number, result));
                        }
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_default();
        results.sort_by_key(|(number, _)| *number);
        results.into_iter().map(|(_, result)| result).collect()
    }

    /// Runs one model, a test of a binary, with one variable of the seam set.
    fn run(&self, (binary, name): (&Path, &str), bound: u32, variable: &str, value: &OsStr) -> Result<Fate> {
        let mut command = Command::new(binary);
        command.args(["--exact", name, "--test-threads", "1"]);
        for (variable, _) in env::vars_os() {
            let text = variable.to_string_lossy();
            if text.starts_with("LOOM_") || text.starts_with("TIDEWIRE_ORD_") || text == "TIDEWIRE_STALE_CAS"
            {
                command.env_remove(&variable);
            }
        }
        command.env(variable, value).env("LOOM_MAX_PREEMPTIONS", bound.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("cannot run {}", binary.display()))?;
        let deadline = Instant::now() + self.timeout;
        let mut pause = Duration::from_micros(500);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(if status.success() { Fate::Passed } else { Fate::Failed });
            }
            if Instant::now() >= deadline {
                child.kill()?;
                child.wait()?;
                return Ok(Fate::TimedOut);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(8));
        }
    }
}

/// The tests of a binary.
fn list(binary: &Path) -> Result<Vec<String>> {
    let output = Command::new(binary)
        .args(["--list", "--format", "terse"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", binary.display()))?;
    if !output.status.success() {
        bail!("{} --list: expected success, found {}", binary.display(), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// A record; one that was never written is that of a model that reaches nothing.
fn read_record(path: &Path) -> (Vec<Site>, Vec<String>) {
    let bytes = fs::read(path).unwrap_or_default();
    parse_record(&String::from_utf8_lossy(&bytes))
}

fn parse_record(text: &str) -> (Vec<Site>, Vec<String>) {
    let (mut sites, mut unreadable) = (Vec::new(), Vec::new());
    for line in text.lines() {
        match Site::parse(line) {
            Ok(site) if sites.contains(&site) => {}
            Ok(site) => sites.push(site),
            Err(error) => unreadable.push(error),
        }
    }
    (sites, unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_with_a_torn_line_keeps_the_others_and_tells() {
        let text = "a/src/b.rs:1:2 load Acquire\na/src/b.rs:1:2 load Acquire\na/src/b.rs:1\nc/src/d.rs:3:4 fence SeqCst";
        let (sites, unreadable) = parse_record(text);
        let sites: Vec<_> = sites.iter().map(|site| site.at.to_string()).collect();
        assert_eq!(sites, ["a/src/b.rs:1:2", "c/src/d.rs:3:4"]);
        assert_eq!(unreadable, ["expected `file:line:column kind ordering`, found `a/src/b.rs:1`"]);
    }

    fn runner(jobs: usize) -> Runner {
        Runner { preemptions: 1, timeout: Duration::from_secs(60), jobs }
    }

    #[test]
    fn results_come_in_order_whatever_the_number_of_jobs() {
        for jobs in [1, 2, 7] {
            assert_eq!(runner(jobs).each(20, |n| n * n), (0..20).map(|n| n * n).collect::<Vec<_>>());
        }
        assert!(runner(2).each(0, |n| n).is_empty());
    }

    /// A shell script that stands in for a binary of models.
    fn script(folder: &Path, body: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.join("models");
        fs::write(
            &path,
            format!("#!/bin/sh\nif [ \"$1\" = --list ]; then echo 'one: test'; exit 0; fi\n{body}\n"),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        // Another test may be between its fork and its exec, with our file still open for writing.
        for _ in 0..1000 {
            match Command::new(&path).arg("--list").output() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    thread::sleep(Duration::from_millis(5));
                }
                _ => break,
            }
        }
        path
    }

    #[test]
    fn the_driver_tells_a_killed_mutant_from_a_survivor_and_a_hang() {
        let site = "a/src/b.rs:2:13 store";
        let cases = [
            ("*) exit 1", Some(0), None),
            ("*) exit 0", None, None),
            ("*) exec sleep 60", None, Some(0)),
            // Proof that the mutant is what the seam reads.
            ("'a/src/b.rs:2:13 store Relaxed') exit 1", Some(0), None),
        ];
        for (arm, killer, timed_out) in cases {
            let folder = tempfile::tempdir().unwrap();
            let body = format!(
                "if [ -n \"$TIDEWIRE_ORD_RECORD\" ]; then echo '{site} Release' > $TIDEWIRE_ORD_RECORD; exit 0; fi\n\
                 case \"$TIDEWIRE_ORD_MUTANT\" in {arm};; esac"
            );
            let binary = script(folder.path(), &body);
            let models = runner(2).baseline(&[binary], 1).unwrap();
            assert_eq!((models.len(), models[0].fate), (1, Fate::Passed));
            let text = "fn put() {\n  self.tail.store(1, Ordering::Release);\n}\n";
            let sources = [super::super::source::Source::new("a/src/b.rs".to_owned(), text)];
            let sites = super::super::judge::sites(&models, &sources);
            let mut runner = runner(2);
            if timed_out.is_some() {
                runner.timeout = Duration::from_millis(200);
            }
            let tried = runner.mutants(&models, &sites).unwrap();
            assert_eq!(tried.len(), 1, "{arm}");
            assert_eq!((tried[0].killer, tried[0].timed_out), (killer, timed_out), "{arm}");
        }
    }

    #[test]
    fn a_survivor_of_the_quick_bound_meets_the_full_one() {
        for (full, killer) in [(3, Some(0)), (1, None)] {
            let folder = tempfile::tempdir().unwrap();
            let body = "if [ -n \"$TIDEWIRE_ORD_RECORD\" ]; then echo 'a/src/b.rs:2:13 store Release' \
                        > $TIDEWIRE_ORD_RECORD; exit 0; fi\n[ $LOOM_MAX_PREEMPTIONS != 3 ]";
            let binary = script(folder.path(), body);
            let runner = Runner { preemptions: full, ..runner(1) };
            let models = runner.baseline(&[binary], runner.quick()).unwrap();
            let text = "fn put() {\n  self.tail.store(1, Ordering::Release);\n}\n";
            let sources = [super::super::source::Source::new("a/src/b.rs".to_owned(), text)];
            let sites = super::super::judge::sites(&models, &sources);
            let tried = runner.mutants(&models, &sites).unwrap();
            assert_eq!((tried.len(), tried[0].killer), (1, killer), "bound {full}");
        }
    }

    #[test]
    fn a_milder_mutant_that_is_killed_spares_the_weaker_ones() {
        for (arm, expected) in [("*) exit 1", 2), ("*Relaxed) exit 1", 3)] {
            let folder = tempfile::tempdir().unwrap();
            let body = format!(
                "if [ -n \"$TIDEWIRE_ORD_RECORD\" ]; then echo 'a/src/b.rs:2:13 rmw AcqRel' > $TIDEWIRE_ORD_RECORD; \
                 exit 0; fi\ncase \"$TIDEWIRE_ORD_MUTANT\" in {arm};; esac"
            );
            let binary = script(folder.path(), &body);
            let models = runner(1).baseline(&[binary], 1).unwrap();
            let text = "fn put() {\n  self.tail.swap(1, Ordering::AcqRel);\n}\n";
            let sources = [super::super::source::Source::new("a/src/b.rs".to_owned(), text)];
            let sites = super::super::judge::sites(&models, &sources);
            assert_eq!(runner(1).mutants(&models, &sites).unwrap().len(), expected, "{arm}");
        }
    }

    #[test]
    fn a_binary_that_cannot_run_or_has_no_models_is_an_error() {
        let error = runner(1).baseline(&[PathBuf::from("/nowhere/models")], 1).unwrap_err();
        assert!(error.to_string().contains("cannot run /nowhere/models"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let binary = script(folder.path(), "exit 0");
        fs::write(&binary, "#!/bin/sh\nexit 0\n").unwrap();
        let error = runner(1).baseline(&[binary], 1).unwrap_err();
        assert!(error.to_string().contains("expected at least one model, found none"), "{error}");
    }
}
