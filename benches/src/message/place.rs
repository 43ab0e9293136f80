//! Where the two processes of a sample find each other: names that nobody else has, and a word to wait on.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;

use crate::board::{Board, Signal};
use crate::crowd::Patience;

/// Names and a folder for one sample; the folder goes when this is dropped.
#[derive(Debug)]
pub struct Place {
    name: String,
    folder: PathBuf,
}

impl Place {
    /// A place of its own.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            // ORD own: Relaxed, only makes names differ.
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("tidewire-benches-{}-{number}", std::process::id());
            let folder = Path::new("/dev/shm").join(&name);
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(Self { name, folder }),
                // Somebody with the same process number was killed, and left it behind.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("make {}", folder.display())),
            }
        }
    }

    /// The name that all names here begin with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The way by which messages go; each number below [`SIGNALS`](crate::board::SIGNALS) can be used once.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn link<'p>(&'p self, board: &'p Board, number: usize) -> anyhow::Result<Link<'p>> {
        let signal = board.signals.get(number).context("expected the number of a link")?;
        Ok(Link { place: self, signal, number })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.folder);
    }
}

/// A way by which messages go.
#[derive(Clone, Copy, Debug)]
pub struct Link<'p> {
    place: &'p Place,
    signal: &'p Signal,
    number: usize,
}

impl Link<'_> {
    /// A name that no other link has.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", self.place.name, self.number)
    }

    /// A path that no other link has.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.place.folder.join(self.number.to_string())
    }

    /// Where the sample lives.
    #[must_use]
    pub fn place(&self) -> &Place {
        self.place
    }

    /// Says that the first side has made what the second needs.
    pub fn made(&self) {
        // No name is never too long.
        let _always = self.signal.made("");
    }

    /// Says so, with a name that only the first side knows.
    ///
    /// # Errors
    /// If the name is too long.
    pub fn made_as(&self, name: &str) -> anyhow::Result<()> {
        self.signal.made(name)
    }

    /// Waits until the first side has said so.
    pub fn await_made(&self) {
        let mut patience = Patience::default();
        while !self.signal.is_made() {
            patience.wait();
        }
    }

    /// Says that the second side is there, too.
    pub fn joined(&self) {
        self.signal.joined();
    }

    /// Waits until the second side is there.
    pub fn await_joined(&self) {
        let mut patience = Patience::default();
        while !self.signal.is_joined() {
            patience.wait();
        }
    }

    /// Waits for the name that the first side gives.
    #[must_use]
    pub fn await_name(&self) -> String {
        self.await_made();
        self.signal.name()
    }
}
