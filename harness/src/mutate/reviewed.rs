//! The reviewed list: what models cannot kill or reach, each with a reason, and named so that it does not rot.
//!
//! A line is `survives FILE FUNCTION KIND FROM->TO: reason` or `unreached FILE FUNCTION ORDERING: reason`. Empty lines
//! and lines that begin with `#` say nothing.

use anyhow::{Result, bail};

/// What an entry allows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// The words before the colon.
    key: String,
    reason: String,
    line: usize,
    used: bool,
}

/// The reviewed list, which remembers what was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Reviewed {
    entries: Vec<Entry>,
}

impl Reviewed {
    /// Parses the list.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut entries: Vec<Entry> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = number + 1;
            let (key, reason) = line.split_once(": ").unwrap_or((line, ""));
            let words: Vec<&str> = key.split_whitespace().collect();
            let known = matches!(words.as_slice(), ["survives", _, _, _, change] if change.contains("->"))
                || matches!(words.as_slice(), ["unreached", _, _, _]);
            if !known {
                bail!(
                    "line {number}: expected `survives FILE FUNCTION KIND FROM->TO: reason` or \
                     `unreached FILE FUNCTION ORDERING: reason`, found `{line}`"
                );
            }
            if reason.trim().is_empty() {
                bail!("line {number}: expected a reason behind `: `, found none");
            }
            let key = words.join(" ");
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                bail!("line {number}: expected each entry once, found that of line {} again", first.line);
            }
            entries.push(Entry { key, reason: reason.trim().to_owned(), line: number, used: false });
        }
        Ok(Self { entries })
    }

    /// The reason why a mutant may survive, if there is one.
    pub(super) fn survivor(&mut self, file: &str, function: &str, mutation: &str) -> Option<String> {
        self.reason(&format!("survives {file} {function} {mutation}"))
    }

    /// The reason why no model reaches an ordering, if there is one.
    pub(super) fn unreached(&mut self, file: &str, function: &str, order: &str) -> Option<String> {
        self.reason(&format!("unreached {file} {function} {order}"))
    }

    fn reason(&mut self, key: &str) -> Option<String> {
        let entry = self.entries.iter_mut().find(|entry| entry.key == key)?;
        entry.used = true;
        Some(entry.reason.clone())
    }

    /// The entries that nothing asked for: what they excuse is gone.
    pub(super) fn stale(&self) -> impl Iterator<Item = (&str, usize)> {
        self.entries.iter().filter(|entry| !entry.used).map(|entry| (entry.key.as_str(), entry.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_excuses_what_it_names_and_nothing_else() {
        let text = "# a comment\n\nsurvives a/src/b.rs f load Acquire->Relaxed: because\n\
                    unreached a/src/b.rs g SeqCst: no model of x: see y\n";
        let mut list = Reviewed::parse(text).unwrap();
        assert_eq!(list.stale().count(), 2);
        assert_eq!(list.survivor("a/src/b.rs", "f", "load SeqCst->Relaxed"), None);
        assert_eq!(list.survivor("a/src/b.rs", "f", "load Acquire->Relaxed").as_deref(), Some("because"));
        assert_eq!(list.unreached("a/src/b.rs", "f", "SeqCst"), None);
        assert_eq!(list.stale().collect::<Vec<_>>(), [("unreached a/src/b.rs g SeqCst", 4)]);
        assert_eq!(list.unreached("a/src/b.rs", "g", "SeqCst").as_deref(), Some("no model of x: see y"));
        assert_eq!(list.stale().count(), 0);
    }

    #[test]
    fn what_is_no_entry_is_refused_with_its_line() {
        for (text, part) in [
            ("\nallows a b c: d", "line 2: expected `survives"),
            ("survives a b load: reason", "line 1: expected `survives"),
            ("unreached a b Acquire", "line 1: expected a reason"),
            ("unreached a b Acquire:  ", "line 1: expected"),
            ("unreached a b Acquire: x\nunreached  a b  Acquire: y", "line 2: expected each entry once"),
        ] {
            let error = Reviewed::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
