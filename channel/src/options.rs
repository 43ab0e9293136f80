//! What may be chosen for a channel.

use std::path::PathBuf;
use std::time::Duration;

use tidewire_shm::bell::{ROSTER_MAX, SleepOptions, Spin};
use tidewire_shm::{SegmentOptions, StalePolicy};

use crate::error::OpenError;

/// How messages of several senders meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A lane for each sender: messages of one sender arrive in order, those of several in no particular one, and no
    /// sender delays another. The default.
    #[default]
    Lanes,
    /// One order over all senders, the one in which they sent. Costs two to four times as much.
    Ordered,
    /// One sender: a ring, and nothing else.
    Single,
}

/// How to wait for a message, or for room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// Look without pause: the least delay there is, and a processor for each who waits.
    Spin,
    /// Look, and let others run in between.
    Yield,
    /// Spin for a while, 10 to 20 microseconds where nothing else is chosen, then sleep. The default.
    #[default]
    Hybrid,
    /// As [`Hybrid`](Self::Hybrid), spinning for at least about as long as this before sleeping. Deadlines and deaths are
    /// looked at before and after that: make it short.
    HybridFor(Duration),
    /// Sleep at once.
    Park,
}

impl Wait {
    pub(crate) fn sleep_options(self) -> SleepOptions {
        let options = SleepOptions::new();
        match self {
            // Those that never sleep look for themselves.
            Self::Spin | Self::Yield | Self::Hybrid => options,
            // A round of a pause and a look takes about 20 ns.
            Self::HybridFor(spin) => {
                options.spin(Spin::Rounds(u32::try_from(spin.as_nanos() / 20).unwrap_or(u32::MAX)))
            }
            Self::Park => options.spin(Spin::Rounds(0)).yields(0),
        }
    }
}

/// What becomes of a message for which there is no room. A receiver chooses it, for all senders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// [`send`](crate::Sender::send) waits until there is. The default.
    #[default]
    Block,
    /// `send` gives it back at once, with [`SendError::Full`](crate::SendError::Full).
    Reject,
    /// `send` drops it, and counts it: [`Sender::dropped`](crate::Sender::dropped), and for the receiver
    /// [`SenderInfo::dropped`](crate::SenderInfo::dropped).
    DropNewest,
    /// It takes the place of the oldest one, and whoever missed that is told exactly how many:
    /// [`Receiver::missed`](crate::Receiver::missed), [`Subscriber::missed`](crate::Subscriber::missed). The default for what is
    /// published.
    ///
    /// A sender overwrites what is its own: with [`Kind::Lanes`] each has room for as many messages as the
    /// [capacity](Options::capacity) says, and drops its own oldest; no sender makes another one lose anything. The receiver takes
    /// from each in turn, in the order of each, and counts what it missed of each: [`SenderInfo::dropped`](crate::SenderInfo::dropped).
    /// What a dead sender left is received; only where all other places are taken does the next one overwrite it. A receiver that
    /// follows one that is gone goes on with its account.
    ///
    /// Not with [`Kind::Ordered`]: there the oldest message of all may be somebody else's, and a sender that takes out what is not its
    /// own could be killed, or stopped, with one that is neither here nor there. Not in channels of bytes: publish them. For several receivers,
    /// publish. That its receiver was killed, a sender finds out within two capacities of messages.
    DropOldest,
}

/// What may be chosen for a channel: how much it holds and who may send by whoever creates it, the receiver; how to wait
/// by each end for itself.
///
/// ```
/// use tidewire::{Kind, Options, Overflow};
///
/// let (mut tx, mut rx) = Options::new().capacity(4).kind(Kind::Single).overflow(Overflow::Reject).channel::<u64>()?;
/// for i in 0..4 {
///     tx.send(i)?;
/// }
/// assert!(tx.send(4).is_err());
/// assert_eq!(rx.recv()?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) capacity: Option<usize>,
    pub(crate) senders: u32,
    pub(crate) kind: Kind,
    /// `None`: what is usual for the pattern.
    pub(crate) overflow: Option<Overflow>,
    pub(crate) history: u64,
    /// Bytes of the longest message that is published as bytes.
    pub(crate) max_message: Option<usize>,
    pub(crate) wait: Wait,
    pub(crate) stale: StalePolicy,
    pub(crate) fence: bool,
    /// What the bytes of a channel of bytes are, for those who care.
    pub(crate) bytes_of: u64,
    pub(crate) directory: Option<PathBuf>,
    /// `None`: this user alone.
    pub(crate) permissions: Option<u32>,
    pub(crate) owner: Option<u32>,
    pub(crate) huge_pages: bool,
    pub(crate) prefault: bool,
    pub(crate) lock_memory: bool,
    /// Only `trusted` sets it.
    pub(crate) trusted: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// The defaults: lanes for 16 senders with 8 to 1024 messages each, about a mebibyte in all; waiting by spinning a
    /// little and then sleeping; senders wait when there is no room.
    #[must_use]
    pub fn new() -> Self {
        Self {
            capacity: None,
            senders: 16,
            kind: Kind::Lanes,
            overflow: None,
            history: 0,
            max_message: None,
            wait: Wait::Hybrid,
            stale: StalePolicy::Adopt,
            fence: false,
            bytes_of: 0,
            directory: None,
            permissions: None,
            owner: None,
            huge_pages: false,
            prefault: false,
            lock_memory: false,
            trusted: false,
        }
    }

    /// How many messages the channel holds for each sender; bytes for a channel of bytes. Rounded up to a power of two.
    ///
    /// What was received last takes its room until the receiver looks for more: whoever dies in between has lost nothing.
    /// So one thread that holds both ends of a small channel looks before it counts on room.
    #[must_use]
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = Some(capacity);
        self
    }

    /// How many senders, clients or subscribers there can be at a time: 1 to 255, but for [`Kind::Single`].
    #[must_use]
    pub fn senders(mut self, senders: u32) -> Self {
        self.senders = senders;
        self
    }

    /// How messages of several senders meet.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// What becomes of messages for which there is no room.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = Some(overflow);
        self
    }

    /// How many of the messages that were published before it came a subscriber wants, as far as they are kept. None, if
    /// nothing else is chosen.
    ///
    /// A channel has no use for it: what was sent before its receiver came, or between two receivers, waits for the next one in any
    /// case.
    #[must_use]
    pub fn history(mut self, messages: u64) -> Self {
        self.history = messages;
        self
    }

    /// How this end waits.
    #[must_use]
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// What a receiver does with a channel of its name that nobody uses any more: goes on with what was sent
    /// ([`StalePolicy::Adopt`], the default: nothing that was sent is lost), or begins anew. One that holds other messages
    /// than the receiver wants, or that was made before the last boot, is always begun anew.
    #[must_use]
    pub fn stale(mut self, stale: StalePolicy) -> Self {
        self.stale = stale;
        self
    }

    /// Lets every message pay for a fence, so that a sleeper needs no help of the kernel to be woken. For where some of the
    /// processes may not use `membarrier`; where the receiver may not, it is so without asking.
    #[must_use]
    pub fn fence(mut self, fence: bool) -> Self {
        self.fence = fence;
        self
    }

    /// Keeps names in this directory instead of the one of this user. Only this user can enter it, unless other
    /// [permissions](Self::permissions) are chosen; or hand the [memory](Self::memory) over.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Who may open what has a name: permission bits of its file, 0600 if nothing is chosen. All ends of it choose the same,
    /// name a [directory](Self::directory), and call [`guard_sigbus`](crate::shm::guard_sigbus) first.
    ///
    /// | | who else takes part |
    /// |---|---|
    /// | 0660, 0666 | the group of the directory, or everybody, in any role |
    /// | 0640, 0644 | they read and cannot write: a [reader](Self::latest_reader) of a latest value, an [observer](Self::observer), and [`list`](Self::list) and [`inspect`](Self::inspect) |
    /// | 0664 | the group in any role, everybody as with 0644 |
    ///
    /// All other ends write: senders, clients and subscribers, too, where they take their place and say that they are there.
    /// Opened without the right to, they are [refused](crate::shm::SegmentError::Permission).
    ///
    /// The directory, its sticky bit, its owner and what is refused: [`SegmentOptions::mode`]. Whoever opens what
    /// another user but root created names that user: [`owner`](Self::owner).
    ///
    /// # What a member of the group can do
    /// What any peer can that has the memory. It sees every message and may take every role that is free. It can write
    /// anything anywhere: that spoils the channel, for all, and no process of theirs (an end says that it is corrupt, or returns
    /// what somebody made up). It can shorten the file, which is why the guard is demanded: an end then says that
    /// it is corrupt or that nobody is there, or finds nothing more, and its [memory](crate::Receiver::memory) that it
    /// [is lost](crate::shm::Segment::is_lost). It can deny service: fill queues, hold roles, lock what others want to take; whoever
    /// can only read can still do the latter. It cannot remove a name, replace one, or have one stand for memory of its own.
    /// Where that is too much, give each of them a channel, and a group, of its own.
    ///
    /// # What is different between users
    /// A peer of another user cannot look into this process, unless it is root. So while it waits it finds out by asking for
    /// the role, every 10 milliseconds, that this process died; and it cannot ring futures and [`Select`](crate::Select) of this
    /// process, which look for themselves after 50 milliseconds, or a quarter of a second, at the latest. All else is as fast as
    /// within one user.
    ///
    /// A receiver whose channel was left by another one, of another user, can go on with it, but not begin it anew.
    ///
    /// # Errors
    /// Of whatever opens an end: [`SegmentError::Mode`](crate::shm::SegmentError::Mode) where it is another mode, no
    /// directory was named, or the guard is missing.
    ///
    /// ```
    /// # let place = tempfile::tempdir()?;
    /// # let directory = place.path().join("ticks");
    /// tidewire::shm::guard_sigbus()?;
    /// let options = tidewire::Options::new().directory(&directory).permissions(0o660);
    /// let mut rx = options.receiver::<u64>("ticks")?;
    /// // Elsewhere, a member of the group; 990 is the user of the receiver.
    /// let mut tx = options.owner(990).sender::<u64>("ticks")?;
    /// tx.send(7)?;
    /// assert_eq!(rx.recv(), Ok(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn permissions(mut self, mode: u32) -> Self {
        self.permissions = Some(mode);
        self
    }

    /// Who may have created what is opened, besides root and this user; where the [permissions](Self::permissions) admit others.
    /// What anybody else put there under the name is refused.
    #[must_use]
    pub fn owner(mut self, uid: u32) -> Self {
        self.owner = Some(uid);
        self
    }

    /// Asks for huge pages; normal ones are taken where the system gives none. What was got,
    /// [`Segment::huge_pages`](crate::shm::Segment::huge_pages) of an end's memory says.
    #[must_use]
    pub fn huge_pages(mut self, wanted: bool) -> Self {
        self.huge_pages = wanted;
        self
    }

    /// Has all pages mapped before the first message, by this end for itself, so that no message waits for one.
    #[must_use]
    pub fn prefault(mut self, wanted: bool) -> Self {
        self.prefault = wanted;
        self
    }

    /// Keeps the memory from being swapped out, as long as this end is there. Where a limit of this process forbids that, its ends
    /// are not opened: [`SegmentError::Limit`](crate::shm::SegmentError::Limit).
    #[must_use]
    pub fn lock_memory(mut self, wanted: bool) -> Self {
        self.lock_memory = wanted;
        self
    }

    /// Trusts all who can write the memory of the channel: then this end lends messages where they lie, to be written by
    /// [`Reservation::as_mut`](crate::Reservation::as_mut) and read by [`Chunk::as_slices`](crate::Chunk::as_slices), and their
    /// like for bytes. Without it, what goes in and out is copied, once, between the shared memory and memory of the caller.
    ///
    /// It concerns the end that is opened with it, and of patterns only channels: what is published, asked, answered or written
    /// as the latest value is copied in any case. All else is checked as it is for peers that are not trusted.
    ///
    /// # Safety
    /// Until the last end that was opened with these options is gone, every process that can write the memory of the channel
    /// writes it only by way of this library.
    ///
    /// # Examples
    /// ```
    /// // SAFETY: without a name, the memory is this process's alone.
    /// let options = unsafe { tidewire::Options::new().trusted() };
    /// let (mut tx, mut rx) = options.channel::<[u8; 65536]>()?;
    /// let mut frame = tx.reserve()?;
    /// if let Some(frame) = frame.as_mut() {
    ///     frame.fill(7);
    /// }
    /// frame.commit()?;
    /// let mut frames = rx.read_chunk(1)?;
    /// assert_eq!(frames.as_slices().map(|(frames, _)| frames[0][65535]), Some(7));
    /// frames.release(1)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub unsafe fn trusted(mut self) -> Self {
        self.trusted = true;
        self
    }

    /// Whether a channel with these options overwrites its oldest messages.
    pub(crate) fn is_lossy(&self) -> bool {
        self.overflow == Some(Overflow::DropOldest)
    }

    pub(crate) fn segment_options(&self) -> SegmentOptions {
        let mut options = SegmentOptions::new()
            .huge_pages(self.huge_pages)
            .prefault(self.prefault)
            .lock_memory(self.lock_memory);
        if let Some(mode) = self.permissions {
            options = options.mode(mode);
        }
        if let Some(uid) = self.owner {
            options = options.owner(uid);
        }
        match &self.directory {
            Some(directory) => options.directory(directory),
            None => options,
        }
    }

    /// Senders there can be.
    pub(crate) fn most_senders(&self) -> u32 {
        if self.kind == Kind::Single { 1 } else { self.senders }
    }

    pub(crate) fn checked_senders(&self) -> Result<u32, OpenError> {
        if self.is_lossy() && self.kind == Kind::Ordered {
            return Err(OpenError::Options {
                reason: String::from(
                    "expected Kind::Lanes or Kind::Single where the oldest are dropped, found Kind::Ordered: what one sender overwrites must be its own",
                ),
            });
        }
        let senders = self.most_senders();
        if (1..ROSTER_MAX).contains(&senders) {
            return Ok(senders);
        }
        Err(OpenError::Options {
            reason: format!("expected 1 to {} senders, found {senders}", ROSTER_MAX - 1),
        })
    }
}
