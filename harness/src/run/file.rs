//! The file that travels: what is read at one end, what is written at the other, and whether they are the same.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

/// This program, which is a file that is always there.
const OWN: &str = "/proc/self/exe";

/// An input and the temporary file that it is copied to. That has no name: whatever happens, it is not left behind.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) input: File,
    pub(crate) output: File,
}

/// The path of the input: what the user named, or this program.
pub(crate) fn path(named: Option<&PathBuf>) -> &Path {
    named.map_or(Path::new(OWN), PathBuf::as_path)
}

impl Copy {
    /// Opens both ends.
    pub(crate) fn open(input: &Path) -> Result<Self> {
        let file = open(input)?;
        let output = tempfile::tempfile()
            .with_context(|| format!("creating a temporary file in {}", std::env::temp_dir().display()))?;
        Ok(Self { input: file, output })
    }

    /// What is different about the output, if anything is.
    pub(crate) fn difference(&mut self) -> Result<Option<String>> {
        let (read, sent) = digest(&mut self.input).context("reading the input again")?;
        let (written, received) = digest(&mut self.output).context("reading the output again")?;
        Ok((read != written || sent != received).then(|| {
            format!("expected {read} bytes with the digest {sent}, found {written} bytes with the digest {received}")
        }))
    }
}

/// Opens an input for reading, if it is a file that can be read twice.
pub(crate) fn open(input: &Path) -> Result<File> {
    let context = || format!("opening the input {}", input.display());
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let kind = std::fs::metadata(input).with_context(context)?.file_type();
    ensure!(kind.is_file(), "expected a regular file as the input, found {}", input.display());
    File::open(input).with_context(context)
}

/// Length and SHA-256 of a file, from its start.
fn digest(file: &mut File) -> Result<(u64, String)> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let mut len = 0;
    let mut buffer = vec![0; 1 << 18];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(buffer.split_at(n).0);
        len += n as u64;
    }
    let hex = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((len, hex))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn copy(input: &[u8], output: &[u8]) -> Option<String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(input).unwrap();
        let mut copy = Copy::open(file.path()).unwrap();
        copy.output.write_all(output).unwrap();
        copy.difference().unwrap()
    }

    #[test]
    fn only_the_same_bytes_are_the_same() {
        assert_eq!(copy(b"", b""), None);
        assert_eq!(copy(b"abc", b"abc"), None);
        let found = copy(b"abc", b"abd").unwrap();
        assert!(found.contains("ba7816bf 8f01cfea".replace(' ', "").as_str()), "{found}");
        assert!(copy(b"abc", b"ab").unwrap().contains("found 2 bytes"));
    }

    #[test]
    fn what_cannot_be_read_twice_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Copy::open(directory.path()).unwrap_err().to_string().starts_with("expected a regular file"));
        assert!(Copy::open(&directory.path().join("no")).is_err());
        assert!(Copy::open(Path::new("/dev/zero")).is_err());
    }
}
