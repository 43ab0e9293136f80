//! Who else is there: the others of a roster, as its owner keeps track of them.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use tidewire_shm::bell::{BellError, Caller, Hands, PeerState, Roster, System, UNWATCHED_SLICE};
use tidewire_shm::{DeathWatch, NoticeAddress, RoleId, SegmentLeases, Untrusted};

use crate::event::Ending;
use crate::queue::is_vacant;

/// The entry of the owner.
pub(crate) const OWNER: u32 = 0;

/// One that said that it is there.
#[derive(Debug)]
struct Present {
    entry: u32,
    generation: u64,
    watch: Option<DeathWatch>,
    /// Its notice, as it said.
    notice: [u64; 2],
    ending: Ending,
}

impl Present {
    /// Killed, as the kernel says. One that is about to end may still publish: its lease tells.
    fn is_gone(&self) -> bool {
        self.watch.as_ref().is_some_and(DeathWatch::is_dead_hint)
    }

    /// Whether its notice tells when it dies.
    fn is_watched(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| matches!(watch.state(), PeerState::Alive | PeerState::Dead))
    }
}

/// One that died.
#[derive(Clone, Copy, Debug)]
struct Ghost {
    entry: u32,
    generation: u64,
    /// Whether its death is proven.
    buried: bool,
}

/// The others, as far as is known.
#[derive(Debug)]
pub(crate) struct Company {
    pub(crate) roster: Roster<Untrusted>,
    leases: Arc<SegmentLeases>,
    hands: Hands<Untrusted>,
    callers: Vec<Option<Caller<System, Untrusted>>>,
    /// Which producer entry 1 is.
    first_role: u32,
    /// Who is there, as of `changes`.
    present: Vec<Present>,
    changes: u64,
    /// Whether anybody has been there in our time, and the generation of each entry before.
    met: bool,
    before: Vec<u64>,
    /// Those whose entries say that they are there, and who are not.
    ghosts: Vec<Ghost>,
    /// When those without a notice were asked after by a look that does not wait.
    asked: Option<Instant>,
}

impl Company {
    /// To be made before the owner says that it is there: whoever comes later is one who came in our time.
    pub(crate) fn new(
        roster: Roster<Untrusted>,
        leases: Arc<SegmentLeases>,
        first_role: u32,
    ) -> Result<Self, BellError> {
        let before = (0..roster.entries()).map(|entry| roster.entry(entry).generation).collect();
        let callers = (0..roster.entries()).map(|_| None).collect();
        let hands = roster.hands(&System)?;
        let (present, ghosts) = (Vec::new(), Vec::new());
        Ok(Self {
            roster,
            leases,
            hands,
            callers,
            first_role,
            present,
            changes: 0,
            met: false,
            before,
            ghosts,
            asked: None,
        })
    }

    /// Whether somebody waits, after something was published that concerns all. One load if nobody does.
    #[inline(always)]
    pub(crate) fn is_awaited(&self) -> bool {
        self.hands.any()
    }

    /// Wakes those who wait.
    #[cold]
    pub(crate) fn call_those_who_wait(&mut self) {
        let raised: Vec<u32> = self.hands.raised().filter(|entry| *entry != OWNER).collect();
        for entry in raised {
            self.call(entry);
        }
    }

    /// Wakes all who are there: something has ended.
    pub(crate) fn call_all(&mut self) {
        for entry in 1..self.roster.entries() {
            if self.roster.entry(entry).present {
                self.call(entry);
            }
        }
    }

    fn call(&mut self, entry: u32) {
        let Some(caller) = self.callers.get_mut(entry as usize) else { return };
        if caller.is_none() {
            // Refused now, it is tried at the next call; whoever sleeps looks for itself at the end of its slice.
            *caller = self.roster.caller(entry, System).ok();
        }
        if let Some(caller) = caller {
            let _rung = caller.ring();
        }
    }

    /// How many came and went, as of the last look around.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether a look around would find something.
    pub(crate) fn has_news(&self) -> bool {
        self.roster.changes() != self.changes
            || self.ghosts.iter().any(|ghost| !ghost.buried)
            || self.present.iter().any(Present::is_gone)
    }

    /// Whether somebody was there, and nobody is any more.
    pub(crate) fn is_deserted(&self) -> bool {
        self.met && self.present.is_empty()
    }

    /// How many are there.
    pub(crate) fn len(&self) -> usize {
        self.present.len()
    }

    /// Entry and generation of those who are there.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.present.iter().map(|one| (one.entry, one.generation))
    }

    /// Brings the list of those who are there up to date; whether somebody was proven dead.
    pub(crate) fn look_around(&mut self) -> bool {
        // Before the entries: a change in between is found next time.
        self.changes = self.roster.changes();
        let mut seen = std::mem::take(&mut self.present);
        for entry in 1..self.roster.entries() {
            let said = self.roster.entry(entry);
            // Also one that came and went without being seen.
            self.met |= self.before.get(entry as usize).is_some_and(|before| said.generation > *before);
            if !said.present {
                continue;
            }
            let known = seen.iter().position(|one| one.entry == entry && one.generation == said.generation);
            let is_ghost = |ghost: &Ghost| (ghost.entry, ghost.generation) == (entry, said.generation);
            if self.ghosts.iter().any(is_ghost) {
                continue;
            }
            let found = match known {
                Some(index) => seen.swap_remove(index),
                None => Present {
                    entry,
                    generation: said.generation,
                    watch: DeathWatch::find(NoticeAddress::from_words(said.notice)).ok(),
                    notice: said.notice,
                    ending: Ending::Unasked,
                },
            };
            // One that died before it was ever seen has no notice any more.
            let unseen = found.watch.is_none() && known.is_none() && self.is_vacant(entry);
            if unseen || found.is_gone() {
                // That it was there counts only if it could be seen.
                self.met |= !unseen;
                self.ghosts.push(Ghost { entry, generation: found.generation, buried: false });
            } else {
                self.present.push(found);
            }
        }
        self.met |= !self.present.is_empty() || !seen.is_empty();
        self.bury()
    }

    fn is_vacant(&self, entry: u32) -> bool {
        vacant(&self.leases, self.first_role, entry)
    }

    /// Asks for the proof of each death that is said; whether there is a new one.
    fn bury(&mut self) -> bool {
        let roster = &self.roster;
        self.ghosts.retain(|ghost| {
            let said = roster.entry(ghost.entry);
            said.present && said.generation == ghost.generation
        });
        let (mut proven, mut lowered) = (false, Vec::new());
        for ghost in self.ghosts.iter_mut().filter(|ghost| !ghost.buried) {
            ghost.buried = vacant(&self.leases, self.first_role, ghost.entry);
            if ghost.buried {
                self.roster.lower(ghost.entry);
                proven = true;
                lowered.push(*ghost);
            }
        }
        for ghost in lowered {
            // The next holder may have raised its hand just before.
            if self.roster.entry(ghost.entry).generation != ghost.generation {
                self.call(ghost.entry);
            }
        }
        proven
    }

    /// Asks after those who have no notice, by their leases.
    pub(crate) fn ask_after_unwatched(&mut self) {
        let (leases, first) = (&self.leases, self.first_role);
        let dead = |one: &mut Present| !one.is_watched() && vacant(leases, first, one.entry);
        for one in self.present.extract_if(.., dead) {
            self.ghosts.push(Ghost { entry: one.entry, generation: one.generation, buried: false });
        }
    }

    /// Asks after those who have no notice, if that was not done lately; for looks that never wait. One that ends without
    /// giving its place back says so in its notice, which then tells no more.
    pub(crate) fn ask_now_and_then(&mut self) {
        if self.present.iter().all(Present::is_watched) {
            return;
        }
        let now = Instant::now();
        if self.asked.is_none_or(|asked| now.duration_since(asked) >= UNWATCHED_SLICE) {
            self.asked = Some(now);
            self.ask_after_unwatched();
        }
    }

    /// Asks after all by their leases: somebody may have spoilt its own notice, and died.
    pub(crate) fn ask_after_all(&mut self) {
        let (leases, first) = (&self.leases, self.first_role);
        let dead = |one: &mut Present| vacant(leases, first, one.entry);
        for one in self.present.extract_if(.., dead) {
            self.ghosts.push(Ghost { entry: one.entry, generation: one.generation, buried: false });
        }
    }

    /// Forgets all without giving anything back, in a fork child.
    #[expect(clippy::mem_forget, reason = "in a fork child nothing of the parent's may be given back")]
    pub(crate) fn abandon(&mut self) {
        std::mem::forget(std::mem::take(&mut self.present));
    }

    /// The notices of those who are there; whether that is all that need be watched.
    pub(crate) fn watches(&self) -> (Vec<&DeathWatch>, bool) {
        let watched = self.present.iter().filter(|one| one.is_watched());
        let watches: Vec<&DeathWatch> = watched.filter_map(|one| one.watch.as_ref()).collect();
        let all = watches.len() == self.present.len() && self.ghosts.iter().all(|ghost| ghost.buried);
        (watches, all)
    }

    /// Asks for what becomes readable when their processes end.
    pub(crate) fn find_endings(&mut self) {
        for one in &mut self.present {
            one.ending.find(one.watch.as_ref(), one.notice);
        }
    }

    /// What becomes readable then; whether that is all that could happen.
    pub(crate) fn descriptors<'a>(&'a self, to: &mut Vec<PollFd<'a>>) -> bool {
        let poll = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        to.extend(self.present.iter().filter_map(|one| one.ending.fd()).map(poll));
        self.present.iter().all(|one| one.ending.fd().is_some())
            && self.ghosts.iter().all(|ghost| ghost.buried)
    }

    /// Has the task woken then; whether it will be for all that could happen.
    pub(crate) fn register(&mut self, waker: &Waker) -> bool {
        let mut all = self.ghosts.iter().all(|ghost| ghost.buried);
        for one in &mut self.present {
            all &= one.ending.register(waker);
        }
        all
    }
}

fn vacant(leases: &SegmentLeases, first_role: u32, entry: u32) -> bool {
    RoleId::producer(first_role + entry - 1).is_some_and(|role| is_vacant(leases, role))
}
