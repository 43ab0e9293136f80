//! Runs models, each in a process of its own: unchanged to record what they reach, then under mutants.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::judge::Reached;
use super::site::{Order, Site};
use crate::verify::tool;

/// The variables of the seam.
const RECORD: &str = "TIDEWIRE_ORD_RECORD";
const MUTANT: &str = "TIDEWIRE_ORD_MUTANT";
/// The status of a test binary of which a test failed.
const TEST_FAILED: i32 = 101;
/// What a panic says.
const PANICKED: &str = "panicked";

/// How a model ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Passed,
    /// The test failed, and not because the seam did not understand what it was told.
    Failed,
    TimedOut,
    /// The seam did not understand its mutant.
    Refused,
    /// As no test ends: by a signal, or with a status that is none of a test binary.
    Broke(ExitStatus),
}

/// A model and what it did unchanged.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) binary: PathBuf,
    pub(super) name: String,
    pub(super) time: Duration,
    /// The preemption bound that it was run with.
    pub(super) bound: u32,
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
    /// The last model that said nothing by how it ended, and why not.
    pub(super) error: Option<(usize, String)>,
}

/// How models are run.
#[derive(Debug)]
pub(super) struct Runner {
    /// The preemption bound that decides about a survivor.
    pub(super) preemptions: u32,
    pub(super) timeout: Duration,
    pub(super) jobs: usize,
    /// Where records and outputs are kept while they are needed.
    pub(super) scratch: TempDir,
}

/// A started model; killed and waited for if it is dropped before its end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, or not wanted any more.
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// What was found by running models unchanged with a larger bound than that of the first run.
type Sound = Mutex<Vec<((usize, u32), Fate)>>;

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
        let models = self.each(jobs.len(), |number| {
            let (binary, name) = jobs.get(number)?;
            let record = self.file();
            let start = Instant::now();
            let fate = self.run((binary, name), preemptions, Some((RECORD, record.as_os_str())));
            let time = start.elapsed();
            Some(fate.map(|fate| {
                let (sites, unreadable) = read_record(&record);
                let (binary, name) = (binary.clone(), name.clone());
                Model { binary, name, time, bound: preemptions, fate, sites, unreadable }
            }))
        });
        models.into_iter().flatten().collect()
    }

    /// Tries every mutant of every site, level by level: a weaker level only if one of the level before survived.
    pub(super) fn mutants(&self, models: &[Model], sites: &[Reached]) -> Result<Vec<Tried>> {
        let sound = Sound::default();
        let tried = self.each(sites.len(), |number| {
            let reached = sites.get(number)?;
            let mut tried = Vec::new();
            for level in reached.site.order.levels(reached.site.kind) {
                let before = tried.len();
                for to in *level {
                    match self.mutant((models, &sound), number, reached, *to) {
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

    fn mutant(
        &self,
        (models, sound): (&[Model], &Sound),
        number: usize,
        reached: &Reached,
        to: Order,
    ) -> Result<Tried> {
        let mut tried = Tried { site: number, to, killer: None, timed_out: None, error: None };
        let value = reached.site.mutant(to);
        let bounds = [self.quick(), self.preemptions];
        let bounds = if self.quick() == self.preemptions { bounds.get(..1) } else { bounds.get(..) };
        for (bound, number) in
            bounds.into_iter().flatten().flat_map(|b| reached.models.iter().map(move |m| (*b, *m)))
        {
            let Some(model) = models.get(number) else { continue };
            let mut error = |what| tried.error = Some((number, what));
            match self.run((&model.binary, &model.name), bound, Some((MUTANT, value.as_ref())))? {
                Fate::Failed => match self.unchanged((number, model), bound, sound)? {
                    Fate::Passed => {
                        tried.killer = Some(number);
                        break;
                    }
                    fate => error(format!("with {bound} preemptions it does not pass unchanged: {fate:?}")),
                },
                Fate::TimedOut => tried.timed_out = Some(number),
                Fate::Refused => error(format!("{MUTANT} was not understood: `{value}`")),
                Fate::Broke(status) => {
                    error(format!(
                        "expected a test that passes or fails (status {TEST_FAILED}), found {status}"
                    ));
                }
                Fate::Passed => {}
            }
        }
        Ok(tried)
    }

    /// How a model ends unchanged with this bound: one that does not pass kills nothing.
    fn unchanged(&self, (number, model): (usize, &Model), bound: u32, sound: &Sound) -> Result<Fate> {
        if bound <= model.bound {
            return Ok(model.fate);
        }
        let known = |sound: &Vec<((usize, u32), Fate)>| {
            sound.iter().find(|(key, _)| *key == (number, bound)).map(|(_, fate)| *fate)
        };
        if let Some(fate) = sound.lock().ok().and_then(|sound| known(&sound)) {
            return Ok(fate);
        }
        let fate = self.run((&model.binary, &model.name), bound, None)?;
        if let Ok(mut sound) = sound.lock() {
            sound.push(((number, bound), fate));
        }
        Ok(fate)
    }

    /// A file of its own in the scratch directory; it is not there yet.
    fn file(&self) -> PathBuf {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        // ORD own: Relaxed, a counter of this process: each file has a name of its own.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.scratch.path().join(number.to_string())
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

    /// Runs one model, a test of a binary, with at most one variable of the seam set.
    fn run(
        &self,
        (binary, name): (&Path, &str),
        bound: u32,
        variable: Option<(&str, &OsStr)>,
    ) -> Result<Fate> {
        let mut command = Command::new(binary);
        command.args(["--exact", name, "--test-threads", "1"]);
        for (variable, _) in env::vars_os() {
            let text = variable.to_string_lossy();
            if text.starts_with("LOOM_") || text.starts_with("TIDEWIRE_ORD_") || text == "TIDEWIRE_STALE_CAS"
            {
                command.env_remove(&variable);
            }
        }
        command.envs(variable).env("LOOM_MAX_PREEMPTIONS", bound.to_string());
        let path = self.file();
        let said =
            fs::File::create_new(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let also = said.try_clone().context("cannot share a file for output")?;
        command.stdin(Stdio::null()).stdout(said).stderr(also);
        tool::die_with_parent(&mut command);
        let child = command.spawn().with_context(|| format!("cannot run {}", binary.display()))?;
        let fate = self.fate(Running(child), &path);
        let _left_behind = fs::remove_file(&path);
        fate
    }

    /// Waits for the end of a model, but not for ever.
    fn fate(&self, mut child: Running, said: &Path) -> Result<Fate> {
        let deadline = Instant::now() + self.timeout;
        let mut pause = Duration::from_micros(500);
        loop {
            if let Some(status) = child.0.try_wait()? {
                if status.success() {
                    return Ok(Fate::Passed);
                }
                let said = fs::read(said).context("cannot read what a model said")?;
                let said = String::from_utf8_lossy(&said);
                // A model that fails in several threads at once panics while it panics, and aborts.
                let aborted = status.signal() == Some(libc::SIGABRT) && said.contains(PANICKED);
                return Ok(match status.code() {
                    Some(TEST_FAILED) if said.contains(MUTANT) => Fate::Refused,
                    Some(TEST_FAILED) => Fate::Failed,
                    _ if aborted => Fate::Failed,
                    _ => Fate::Broke(status),
                });
            }
            if Instant::now() >= deadline {
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
        let scratch = tempfile::tempdir().unwrap();
        Runner { preemptions: 1, timeout: Duration::from_secs(60), jobs, scratch }
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
            ("*) exit 101", Some(0), None, None),
            ("*) exit 0", None, None, None),
            ("*) exec sleep 60", None, Some(0), None),
            // Proof that the mutant is what the seam reads.
            ("'a/src/b.rs:2:13 store Relaxed') exit 101", Some(0), None, None),
            // Neither is a test that failed.
            ("*) exit 1", None, None, Some("found exit status: 1")),
            ("*) kill -9 $$", None, None, Some("SIGKILL")),
            ("*) kill -ABRT $$", None, None, Some("SIGABRT")),
            ("*) echo panicked while panicking; kill -ABRT $$", Some(0), None, None),
            ("*) echo TIDEWIRE_ORD_MUTANT: expected more; exit 101", None, None, Some("not understood")),
        ];
        for (arm, killer, timed_out, error) in cases {
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
            let found = tried[0].error.as_ref().map(|(_, text)| text.as_str());
            assert_eq!(found.is_some(), error.is_some(), "{arm}: {found:?}");
            assert!(found.unwrap_or_default().contains(error.unwrap_or_default()), "{arm}: {found:?}");
        }
    }

    #[test]
    fn a_survivor_of_the_quick_bound_meets_the_full_one() {
        for (full, killer) in [(3, Some(0)), (1, None)] {
            let folder = tempfile::tempdir().unwrap();
            let body = "if [ -n \"$TIDEWIRE_ORD_RECORD\" ]; then echo 'a/src/b.rs:2:13 store Release' \
                        > $TIDEWIRE_ORD_RECORD; exit 0; fi\n[ -z \"$TIDEWIRE_ORD_MUTANT\" ] || [ $LOOM_MAX_PREEMPTIONS != 3 ] || exit 101";
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
    fn a_model_that_fails_unchanged_with_the_deciding_bound_kills_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let body = "if [ -n \"$TIDEWIRE_ORD_RECORD\" ]; then echo 'a/src/b.rs:2:13 store Release' \
                    > $TIDEWIRE_ORD_RECORD; exit 0; fi\n[ $LOOM_MAX_PREEMPTIONS != 3 ] || exit 101";
        let binary = script(folder.path(), body);
        let runner = Runner { preemptions: 3, ..runner(1) };
        let models = runner.baseline(&[binary], runner.quick()).unwrap();
        let text = "fn put() {\n  self.tail.store(1, Ordering::Release);\n}\n";
        let sources = [super::super::source::Source::new("a/src/b.rs".to_owned(), text)];
        let sites = super::super::judge::sites(&models, &sources);
        let tried = runner.mutants(&models, &sites).unwrap();
        assert_eq!((tried.len(), tried[0].killer), (1, None));
        assert!(tried[0].error.as_ref().unwrap().1.contains("does not pass unchanged"), "{tried:?}");
    }

    #[test]
    fn a_milder_mutant_that_is_killed_spares_the_weaker_ones() {
        for (arm, expected) in [("*) exit 101", 2), ("*Relaxed) exit 101", 3)] {
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
