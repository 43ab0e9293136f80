//! The orderings that stand in the sources, found without running anything.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::site::{At, Order};

/// A source file: its code with comments, texts and tests blanked out, so that places stay what they are.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// From the root of the workspace, with slashes, as the compiler names it.
    pub(super) path: String,
    lines: Vec<Vec<char>>,
}

/// An ordering other than `Relaxed` in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Occurrence {
    /// Where the compiler says that the call stands; of a value that is no argument, where it stands itself.
    pub(super) at: At,
    pub(super) order: Order,
    /// The function around it.
    pub(super) function: String,
}

/// All sources below a folder, except what starts with one of `except`.
pub(super) fn read_all(root: &Path, folder: &str, except: &[&str]) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let entries = fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", path.display()))?;
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if except.iter().any(|except| name.starts_with(except)) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(name);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(entry.path()).with_context(|| format!("cannot read {name}"))?;
                found.push(Source::new(name, &text));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

impl Source {
    pub(super) fn new(path: String, text: &str) -> Self {
        let mut code = blank_texts(text);
        blank_tests(&mut code);
        let lines = code.split(|c| *c == '\n').map(<[char]>::to_vec).collect();
        Self { path, lines }
    }

    /// The name of the function that a line stands in: the last one that begins at or above it.
    pub(super) fn function(&self, line: u32) -> String {
        let above = self.lines.iter().take(line as usize).rev();
        above.filter_map(|line| function_name(line)).next().unwrap_or_else(|| "-".to_owned())
    }

    /// Every `Ordering::` but the relaxed ones.
    pub(super) fn occurrences(&self) -> Vec<Occurrence> {
        const NAME: &str = "Ordering::";
        let mut found = Vec::new();
        for (number, line) in self.lines.iter().enumerate() {
            let text: String = line.iter().map(|c| if c.is_ascii() { *c } else { '?' }).collect();
            for (column, _) in text.match_indices(NAME) {
                let word: String =
                    text.chars().skip(column + NAME.len()).take_while(|c| is_word(*c)).collect();
                let Some(order) = Order::parse(&word) else { continue };
                if matches!(order, Order::Relaxed | Order::None) {
                    continue;
                }
                let (line, column) = self.call(number, column).unwrap_or((number, column));
                let at = self.at(line, column);
                found.push(Occurrence { function: self.function(at.line), at, order });
            }
        }
        found
    }

    /// Imports by which an ordering could stand somewhere without `Ordering::` in front of it.
    pub(super) fn imports(&self) -> Vec<At> {
        const NAME: &str = "Ordering";
        let mut found = Vec::new();
        let mut in_use = false;
        for (number, line) in self.lines.iter().enumerate() {
            let text: String = line.iter().map(|c| if c.is_ascii() { *c } else { '?' }).collect();
            in_use |= text.split(|c| !is_word(c)).any(|word| word == "use");
            for (column, _) in text.match_indices(NAME) {
                let rest = text.get(column + NAME.len()..).unwrap_or_default().trim_start();
                let variants = rest.strip_prefix("::").map(str::trim_start);
                let renamed = rest.strip_prefix("as").is_some_and(|rest| rest.starts_with(' '));
                let listed = variants.is_some_and(|rest| rest.starts_with(['{', '*']));
                if in_use && (renamed || variants.is_some()) || listed {
                    found.push(self.at(number, column));
                }
            }
            in_use &= !text.contains(';');
        }
        found
    }

    fn at(&self, line: usize, column: usize) -> At {
        let number = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
        At { file: self.path.clone(), line: number(line), column: number(column) }
    }

    /// The characters before a place, backwards, with their places; a line's end is a space.
    fn backwards(&self, line: usize, column: usize) -> impl Iterator<Item = (usize, usize, char)> {
        let first = self.lines.get(line).map(|chars| (line, column.min(chars.len()), chars));
        let above =
            self.lines.iter().enumerate().take(line).rev().map(|(line, chars)| (line, chars.len(), chars));
        first.into_iter().chain(above).flat_map(|(line, end, chars)| {
            let chars = chars.iter().enumerate().take(end).rev().map(move |(column, c)| (line, column, *c));
            chars.chain([(line, 0, ' ')])
        })
    }

    /// Where the call begins whose argument stands at a place: at its name for a method, at its path for a function.
    fn call(&self, line: usize, column: usize) -> Option<(usize, usize)> {
        let mut depth = 0_u32;
        let mut before = self.backwards(line, column);
        let open = before.by_ref().find(|(_, _, c)| match c {
            ')' | ']' | '}' => {
                depth += 1;
                false
            }
            '(' | '[' | '{' if depth > 0 => {
                depth -= 1;
                false
            }
            '(' | '[' | '{' | ';' => depth == 0,
            _ => false,
        })?;
        if open.2 != '(' {
            return None;
        }
        let name: Vec<_> =
            self.backwards(open.0, open.1).take_while(|(_, _, c)| is_word(*c) || *c == ':').collect();
        name.last().map(|(line, column, _)| (*line, *column))
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The name in `fn name`, if the line begins one.
fn function_name(line: &[char]) -> Option<String> {
    let text: String = line.iter().collect();
    let mut words = text.split_whitespace();
    words.by_ref().find(|word| *word == "fn" || word.ends_with("(fn"))?;
    let name: String = words.next()?.chars().take_while(|c| is_word(*c)).collect();
    (!name.is_empty()).then_some(name)
}

/// Blanks comments, texts and characters; keeps every line and column.
fn blank_texts(text: &str) -> Vec<char> {
    let source: Vec<char> = text.chars().collect();
    let mut out = source.clone();
    let mut i = 0;
    while i < source.len() {
        let rest = source.get(i..).unwrap_or_default();
        let previous = i.checked_sub(1).and_then(|i| source.get(i)).copied().unwrap_or(' ');
        let len = match rest {
            ['/', '/', ..] => rest.iter().take_while(|c| **c != '\n').count(),
            ['/', '*', ..] => comment_len(rest),
            ['r', '"' | '#', ..] if !is_word(previous) || previous == 'b' => raw_len(rest),
            ['"', ..] => quoted_len(rest, '"'),
            ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted_len(rest, '\''),
            _ => 0,
        };
        for c in out.iter_mut().skip(i).take(len).filter(|c| **c != '\n') {
            *c = ' ';
        }
        i += len.max(1);
    }
    out
}

fn comment_len(rest: &[char]) -> usize {
    let (mut depth, mut i) = (0_u32, 0);
    while i < rest.len() {
        match rest.get(i..).unwrap_or_default() {
            ['/', '*', ..] => (depth, i) = (depth + 1, i + 2),
            ['*', '/', ..] if depth == 1 => return i + 2,
            ['*', '/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    i
}

fn raw_len(rest: &[char]) -> usize {
    let hashes = rest.iter().skip(1).take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let body = 2 + hashes;
    let ends = |i: &usize| {
        rest.get(*i) == Some(&'"')
            && rest.iter().skip(i + 1).take(hashes).filter(|c| **c == '#').count() == hashes
    };
    (body..rest.len()).find(ends).map_or(rest.len(), |end| end + 1 + hashes)
}

fn quoted_len(rest: &[char], quote: char) -> usize {
    let mut escaped = false;
    for (i, c) in rest.iter().enumerate().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if *c == quote => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Blanks every item behind `#[cfg(test)]`.
fn blank_tests(code: &mut [char]) {
    let mark: Vec<char> = "#[cfg(test)]".chars().collect();
    let mut i = 0;
    while let Some(start) = code.get(i..).and_then(|rest| rest.windows(mark.len()).position(|at| at == mark))
    {
        let start = i + start;
        let mut depth = 0_u32;
        let rest = code.iter().enumerate().skip(start + mark.len());
        let end = rest.clone().find(|(_, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && matches!(c, '}' | ';')
        });
        let end = end.map_or(code.len(), |(end, _)| end + 1);
        for c in code.iter_mut().take(end).skip(start).filter(|c| **c != '\n') {
            *c = ' ';
        }
        i = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(u32, u32, Order, String)> {
        let source = Source::new("x/src/y.rs".to_owned(), text);
        source.occurrences().into_iter().map(|o| (o.at.line, o.at.column, o.order, o.function)).collect()
    }

    #[test]
    fn a_call_is_found_where_the_compiler_names_it() {
        let text = "fn one() {\n    word.load(Ordering::Acquire);\n    fence(Ordering::SeqCst);\n    \
                    sync::fence(atomic::Ordering::Release);\n}\n";
        assert_eq!(
            found(text),
            [
                (2, 10, Order::Acquire, "one".to_owned()),
                (3, 5, Order::SeqCst, "one".to_owned()),
                (4, 5, Order::Release, "one".to_owned()),
            ]
        );
    }

    #[test]
    fn a_call_over_several_lines_is_found_at_its_name() {
        let text = "pub(crate) fn two(&self) {\n  let r = self\n    .word\n    .compare_exchange(\n      f(1, [2]),\n      \
                    { 3 },\n      Ordering::AcqRel,\n      Ordering::Acquire,\n    );\n}";
        let name = "two".to_owned();
        assert_eq!(found(text), [(4, 6, Order::AcqRel, name.clone()), (4, 6, Order::Acquire, name)]);
    }

    #[test]
    fn comments_texts_and_tests_are_no_code() {
        let text = r##"
            // Ordering::Acquire
            /* Ordering::Acquire /* Ordering::Release */ Ordering::SeqCst */
            const A: &str = "Ordering::Acquire \" Ordering::Release";
            const B: &str = r#"Ordering::Acquire " Ordering::Release"#;
            fn three<'a>(c: &'a u8) { let _ = ('"', '\'', c); x.store(1, Ordering::Release); }
            #[cfg(test)]
            mod tests { fn t() { { x.load(Ordering::Acquire); } } }
            fn four() { x.load(Ordering::Relaxed); y.load(Ordering::Acquire); }
        "##;
        let orders: Vec<_> =
            found(text).into_iter().map(|(_, _, order, function)| (order, function)).collect();
        assert_eq!(orders, [(Order::Release, "three".to_owned()), (Order::Acquire, "four".to_owned())]);
    }

    #[test]
    fn an_ordering_that_is_no_argument_is_found_where_it_stands() {
        assert_eq!(
            found("fn five() {\n  let o = Ordering::SeqCst;\n}"),
            [(2, 11, Order::SeqCst, "five".to_owned())]
        );
    }

    #[test]
    fn imports_that_hide_orderings_are_found() {
        let places = |text: &str| {
            let source = Source::new("x".to_owned(), text);
            source.imports().iter().map(|at| (at.line, at.column)).collect::<Vec<_>>()
        };
        for (text, expected) in [
            ("use a::Ordering::{Acquire, Release};", (1, 8)),
            ("use a::Ordering::*;", (1, 8)),
            ("  pub(crate) use a::Ordering::Acquire;", (1, 21)),
            ("use a::{B, Ordering as O};", (1, 12)),
            ("use a::{\n  b::C,\n  Ordering::Release,\n};", (3, 3)),
        ] {
            assert_eq!(places(text), [expected], "{text}");
        }
        let fine = "use a::{B, Ordering};\nfn f() { x.load(Ordering::Acquire); }\n// use a::Ordering::*;\n\
                    fn g(ordering: Ordering) { let because = 1; }";
        assert_eq!(places(fine), []);
    }

    #[test]
    fn unfinished_texts_end_with_the_file() {
        for text in
            ["\"", "r#\"", "/*", "'\\", "#[cfg(test)] mod t {", "#[cfg(test)]", "(((Ordering::Acquire"]
        {
            let _any = found(text);
        }
    }
}
