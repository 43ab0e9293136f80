//! What a failed layer said of its failure, to be said again at the very end.

use std::collections::VecDeque;

use serde_json::Value;

/// Lines that are said again of one layer.
pub(super) const MOST: usize = 40;
/// Lines behind that of a panic, or an error, that say more about it.
const BEHIND: usize = 3;
/// Last lines that are said if none looks like a reason.
const TAIL: usize = 12;
/// Characters of a line that are said again.
const WIDTH: usize = 300;

/// Reads a stream line by line and keeps what looks like a reason.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    kept: Vec<String>,
    /// Lines still to be kept, behind a reason.
    behind: usize,
    tail: VecDeque<String>,
}

impl Reasons {
    /// Looks at one line.
    pub(super) fn look(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let shown = || line.chars().take(WIDTH).collect::<String>();
        let starts = line.contains("panicked at") || line.starts_with("error:") || line.starts_with("error[");
        let alone = is_failed_test(line) || is_bad_row(line) || line.contains("WARNING: ThreadSanitizer");
        if starts || alone || self.behind > 0 {
            self.behind = if starts { BEHIND } else { self.behind.saturating_sub(1) };
            if self.kept.len() < MOST {
                self.kept.push(shown());
            }
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(shown());
    }

    /// The reasons of a layer's streams together, at most [`MOST`] lines; the last lines if there are none.
    pub(super) fn of(streams: Vec<Self>) -> Vec<String> {
        let any = streams.iter().any(|reasons| !reasons.kept.is_empty());
        let lines =
            streams.into_iter().flat_map(|reasons| if any { reasons.kept } else { Vec::from(reasons.tail) });
        lines.take(MOST).collect()
    }
}

/// `test a::b ... FAILED` of a test runner.
fn is_failed_test(line: &str) -> bool {
    line.starts_with("test ") && line.ends_with("... FAILED")
}

/// A row that says that something is bad, in the words of any of the commands.
fn is_bad_row(line: &str) -> bool {
    if !line.starts_with('{') {
        return false;
    }
    let Ok(Value::Object(row)) = serde_json::from_str(line) else { return true };
    let denied = |field| row.get(field).and_then(Value::as_bool) == Some(false);
    let counted = |field| row.get(field).and_then(Value::as_u64).is_some_and(|count| count > 0);
    let verdict = row.get("verdict").and_then(Value::as_str);
    ["passed", "good", "caught", "verified"].into_iter().any(denied)
        || ["bad", "crashed", "hung"].into_iter().any(counted)
        || verdict.is_some_and(|verdict| !["killed", "reviewed"].contains(&verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let mut reasons = Reasons::default();
        text.lines().for_each(|line| reasons.look(line));
        Reasons::of(vec![Reasons::default(), reasons])
    }

    #[test]
    fn panics_errors_failed_tests_and_bad_rows_are_reasons() {
        let text = "test a ... ok\n{\"bad\":0}\nthread 'b' panicked at src/b.rs:1:2:\nassertion failed\nleft\n\nright\nfar\n\
            test b ... FAILED\nerror[E0308]: mismatched\n --> c\n1\n2\n3\n{\"bad\":2}\n{\"passed\":true}\n{\"verdict\":\"survived\"}";
        let expected = "thread 'b' panicked at src/b.rs:1:2:\nassertion failed\nleft\nright\ntest b ... FAILED\n\
            error[E0308]: mismatched\n --> c\n1\n2\n{\"bad\":2}\n{\"verdict\":\"survived\"}";
        assert_eq!(of(text).join("\n"), expected);
        for bad in ["{\"good\":false}", "{\"caught\":false}", "{\"hung\":1}", "{\"verified\":false}", "{torn"]
        {
            assert!(is_bad_row(bad), "{bad}");
        }
    }

    #[test]
    fn reasons_are_few_and_short_and_without_any_the_end_is_told() {
        assert_eq!(of(&"error: again\n".repeat(1_000)).len(), MOST);
        assert_eq!(of(&format!("error: {}", "x".repeat(10_000))).first().map(String::len), Some(WIDTH));
        let said = (0..100).map(|n| format!("{n}\n")).collect::<String>();
        assert_eq!(of(&said), (88..100).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(of("").is_empty());
    }
}
