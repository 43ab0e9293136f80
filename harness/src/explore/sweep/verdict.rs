//! What the survivors say, once per distinct image, and what is counted.

use super::super::report::{Finding, dump, place};
use super::super::stage::{Role, Stage};
use super::super::victim::Stop;
use super::super::watch::{Event, PANICKED};
use super::super::{Operation, Outcome, Seen};
use super::{Done, Judge, Key, Place, Sweep, Verdict, failed};

/// Exit codes of judges.
const ABSENT: i32 = 0;
const PRESENT: i32 = 1;
const BROKEN: i32 = 2;

impl Sweep<'_> {
    /// Asks the judge, once per distinct image, and counts the point.
    pub(super) fn settle(&mut self, places: &[Place<'_>], judge: Judge) -> Done<()> {
        self.settle_as(places, None, judge)
    }

    /// As [`settle`](Self::settle); `before` is said before a bad verdict.
    pub(super) fn settle_as(&mut self, places: &[Place<'_>], before: Option<&str>, judge: Judge) -> Done<()> {
        let seen = Seen {
            first: self.stage.acknowledged(Role::First),
            second: self.stage.acknowledged(Role::Second),
        };
        let image = self.stage.snapshot();
        let key = self.key(&image);
        let verdict = match self.verdicts.get(&key) {
            Some(verdict) => verdict.clone(),
            None => {
                let verdict = self.ask(&|operation, stage| judge(operation, stage, seen))?;
                self.verdicts.insert(key, verdict.clone());
                verdict
            }
        };
        self.count(places, before, verdict, &image);
        Ok(())
    }

    /// Counts a point with a verdict.
    pub(super) fn count(
        &mut self,
        places: &[Place<'_>],
        before: Option<&str>,
        verdict: Verdict,
        image: &[u8],
    ) {
        match verdict {
            Verdict::Bad(text) => match before {
                Some(before) => self.bad(places, &format!("{before}: {text}"), image),
                None => self.bad(places, &text, image),
            },
            Verdict::Good(outcome) => {
                self.row.points += 1;
                match outcome {
                    Outcome::Absent => self.row.absent += 1,
                    Outcome::Present => self.row.present += 1,
                }
            }
        }
    }

    /// What a verdict depends on.
    pub(super) fn key(&self, image: &[u8]) -> Key {
        (self.nameless(image), self.operation.outside())
    }

    /// An image without the names of processes, which differ from run to run and mean nothing.
    pub(super) fn nameless(&self, image: &[u8]) -> Box<[u8]> {
        let mut image: Box<[u8]> = Box::from(image);
        for offset in self.operation.names() {
            if let Some(name) = image.get_mut(offset..).and_then(<[u8]>::first_chunk_mut::<4>) {
                *name = u32::from(*name != [0; 4]).to_ne_bytes();
            }
        }
        image
    }

    /// Runs a question in a child of its own.
    pub(super) fn ask(
        &mut self,
        question: &dyn Fn(&dyn Operation, &Stage) -> Result<Outcome, String>,
    ) -> Done<Verdict> {
        let (operation, stage) = (self.operation, self.stage);
        let event = self.watch.run(stage, &|| match question(operation, stage) {
            Ok(Outcome::Absent) => ABSENT,
            Ok(Outcome::Present) => PRESENT,
            Err(text) => {
                stage.write_text(&text);
                BROKEN
            }
        });
        Ok(match event.map_err(failed)? {
            Event::Exited(ABSENT) => Verdict::Good(Outcome::Absent),
            Event::Exited(PRESENT) => Verdict::Good(Outcome::Present),
            Event::Exited(BROKEN) => Verdict::Bad(stage.read_text()),
            Event::Exited(PANICKED) => Verdict::Bad(format!("a survivor panicked: {}", stage.read_text())),
            Event::Exited(code) => Verdict::Bad(format!("a survivor ended with code {code}")),
            Event::Killed(signal) | Event::Stopped(signal) => {
                Verdict::Bad(format!("a survivor crashed: {}", signal_name(signal)))
            }
            Event::Blocked => {
                self.count_blocked();
                Verdict::Bad(format!("a survivor is blocked: {}", self.limits()))
            }
        })
    }

    pub(super) fn count_blocked(&mut self) {
        self.blocked += 1;
        self.row.cut |= self.blocked >= self.options.blocked;
    }

    pub(super) fn limits(&self) -> String {
        let limits = self.watch.limits();
        format!("no end within {:?} of processor time or {:?}", limits.processor, limits.wall)
    }

    /// What a victim that did not reach its end did.
    pub(super) fn describe(&mut self, stop: Stop) -> String {
        match stop {
            Stop::Crashed(signal) => format!("the operation crashed: {}", signal_name(signal)),
            Stop::Exited(PANICKED) => format!("the operation panicked: {}", self.stage.read_text()),
            Stop::Exited(code) => format!("the operation ended its process with code {code}"),
            Stop::Step | Stop::Marker => "the operation left its path".to_owned(),
            Stop::Blocked => {
                self.count_blocked();
                let most = self.options.instructions;
                format!("the operation is blocked: {} or {most} instructions", self.limits())
            }
        }
    }

    /// Counts a point at which the operation itself did not go on.
    pub(super) fn fell(&mut self, places: &[Place<'_>], stop: Stop) -> Done<()> {
        let image = self.stage.snapshot();
        let what = self.describe(stop);
        self.bad(places, &what, &image);
        Ok(())
    }

    pub(super) fn bad(&mut self, places: &[Place<'_>], verdict: &str, image: &[u8]) {
        self.row.points += 1;
        self.row.bad += 1;
        if self.row.findings.len() < self.options.findings {
            let segment = image.get(..self.stage.bytes()).unwrap_or(image);
            let places = places.iter().map(|at| place(at.script.actor(), at.point, at.path));
            self.row.findings.push(Finding {
                structure: self.row.structure,
                operation: self.row.operation,
                mode: self.row.mode,
                places: places.collect(),
                verdict: verdict.to_owned(),
                image: dump(segment),
            });
        }
    }
}

/// The name of a signal that a broken structure can cause.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGABRT => "SIGABRT",
        libc::SIGTRAP => "SIGTRAP",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}
