//! What the rules of tidy read: the files of the tree, and their code as paths and functions. Not a parser: it knows
//! comments, literals, `::` and braces, and relies on rustfmt for the rest.

use std::fs;
use std::path::Path;

/// A file of the tree, by its path from the root.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn tree() -> Vec<Source> {
    let mut sources = Vec::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut sources);
    sources
}

pub(crate) fn root_names() -> Vec<String> {
    let entries = fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// All text files of a folder, in the order of their names. Not what git does not hold: builds, and git itself.
fn collect(root: &Path, folder: &str, sources: &mut Vec<Source>) {
    let entries = fs::read_dir(root.join(folder)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in names {
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if root.join(&path).is_dir() {
            if name != "target" && (!name.starts_with('.') || name == ".ci") {
                collect(root, &path, sources);
            }
        } else if name != ".git"
            && let Ok(text) = fs::read_to_string(root.join(&path))
        {
            sources.push(Source { path, text });
        }
    }
}

/// The file without its unit tests, which stand last.
pub(crate) fn production(text: &str) -> &str {
    for (at, attribute) in text.match_indices("\n#[cfg(test)]\n") {
        let mut after = text[at + attribute.len()..].lines().skip_while(|line| line.starts_with("#["));
        if after.next().is_some_and(|line| line.starts_with("mod ") && line.ends_with('{')) {
            return &text[..at];
        }
    }
    text
}

/// Every path in the code with its line: a word, or words joined by `::`; `use a::{b, c}` gives `a::b` and `a::c`; a macro
/// keeps its `!`.
pub(crate) fn paths(code: &str) -> Vec<(usize, String)> {
    let mut tokens = Tokens { rest: code, line: 1 };
    let mut found = Vec::new();
    while !tokens.rest.is_empty() {
        tokens.path(String::new(), &mut found);
    }
    found
}

struct Tokens<'a> {
    rest: &'a str,
    line: usize,
}

impl Tokens<'_> {
    /// One path that begins with `prefix`, or one other character.
    fn path(&mut self, mut prefix: String, found: &mut Vec<(usize, String)>) {
        let line = self.line;
        loop {
            let word = self.word();
            if word.is_empty() {
                return self.group(prefix, found);
            }
            prefix.push_str(word);
            if !self.eat("::") {
                break;
            }
            prefix.push_str("::");
        }
        if self.rest.starts_with('!') && !self.rest.starts_with("!=") {
            prefix.push('!');
        }
        found.push((line, prefix));
    }

    /// After `a::`: what is in braces, or one other character, which is passed over.
    fn group(&mut self, prefix: String, found: &mut Vec<(usize, String)>) {
        if prefix.is_empty() || !self.eat("{") {
            if self.eat("*") && !prefix.is_empty() {
                found.push((self.line, prefix + "*"));
            } else {
                self.skip();
            }
            return;
        }
        while !self.rest.is_empty() && !self.eat("}") {
            if self.rest.starts_with(|first: char| first.is_whitespace() || first == ',') {
                self.skip();
            } else {
                self.path(prefix.clone(), found);
            }
        }
    }

    fn word(&mut self) -> &str {
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip(&mut self) {
        let mut characters = self.rest.chars();
        self.line += usize::from(characters.next() == Some('\n'));
        self.rest = characters.as_str();
    }
}

/// The source with comments, strings and character literals blanked, line for line.
pub(crate) fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let blank = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(hashes) = raw_string(&code, rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            rest[hashes + 2..].find(&end).map_or(rest.len(), |at| hashes + 2 + at + end.len())
        } else if first == '"' {
            quoted(rest, '"')
        } else if rest.starts_with("'\\") || (first == '\'' && rest.chars().nth(2) == Some('\'')) {
            quoted(rest, '\'')
        } else {
            0
        };
        if blank == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..blank].chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = &rest[blank..];
        }
    }
    code
}

/// How many `#` a raw string has that begins here.
fn raw_string(before: &str, rest: &str) -> Option<usize> {
    let inside_a_word = before.ends_with(|c: char| c.is_alphanumeric() && c != 'b' || c == '_');
    let after = rest.strip_prefix('r').filter(|_| !inside_a_word)?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// How long the literal is that begins and ends with `quote`.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// Name, first line and length of each function, which rustfmt ends by a brace as far in as it began.
pub(crate) fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let words: Vec<_> = line.split_whitespace().collect();
        let Some(place) = words.iter().position(|word| *word == "fn") else { continue };
        let prefixes = ["pub", "const", "unsafe", "extern", "async", "pub(crate)", "pub(super)"];
        let declared = words[..place].iter().all(|word| prefixes.contains(word));
        let (Some(name), true) = (words.get(place + 1), declared) else { continue };
        let indent = line.len() - line.trim_start().len();
        let last = |line: &&str| line.trim_end() == format!("{}}}", " ".repeat(indent));
        let ends =
            lines[at..].iter().find_map(|line| line.trim_end().chars().last().filter(|c| "{;".contains(*c)));
        if let (Some('{'), Some(length)) = (ends, lines[at..].iter().position(last)) {
            let name = name.split(['(', '<']).next().unwrap_or_default();
            found.push((name.to_owned(), at + 1, length + 1));
        }
    }
    found
}
