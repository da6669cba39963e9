//! What files are called: as the last part of their URLs' paths, or as their servers say; never with a path in it, and never two alike.

use std::collections::BTreeMap;

use ureq::http::Uri;

/// The longest name, so that what is put behind it still makes one that file systems take (255 bytes).
const LONGEST: usize = 200;
/// What a file without a name is called.
const NAMELESS: &str = "index.html";

/// What is put behind the name of a file that is not whole yet: its bytes, and what is known of them.
pub(crate) const PART: &str = ".part";
pub(crate) const STATE: &str = ".part.json";
/// The next state, before it takes the place of the last one.
pub(crate) const NEXT_STATE: &str = ".part.json.new";

/// The names that are taken, each with the file that has it: the name that this file had at first.
#[derive(Default)]
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    /// This name, or it with a number behind it, for one file alone.
    pub(crate) fn take(&mut self, name: &str) -> String {
        let name = self.first_free(name, None);
        self.claim(&name, &name);
        name
    }

    /// The same for a file that has taken `first` before: whenever it asks again, it gets the same.
    pub(crate) fn take_for(&mut self, name: &str, first: &str) -> String {
        let name = self.first_free(name, Some(first));
        self.claim(&name, first);
        name
    }

    fn first_free(&self, name: &str, whose: Option<&str>) -> String {
        let numbered = (1..).map(|number| format!("{name}.{number}"));
        let free = |name: &String| {
            let mut owners = all(name).into_iter().filter_map(|name| self.0.get(&name));
            owners.all(|owner| Some(owner.as_str()) == whose)
        };
        std::iter::once(name.to_owned()).chain(numbered).find(free).expect("numbers do not end")
    }

    fn claim(&mut self, name: &str, whose: &str) {
        self.0.extend(all(name).map(|name| (name, whose.to_owned())));
    }
}

/// A name, and those of the file when it is not whole.
fn all(name: &str) -> [String; 4] {
    ["", PART, STATE, NEXT_STATE].map(|end| format!("{name}{end}"))
}

/// The name that a URL gives its file.
pub(crate) fn of_url(url: &Uri) -> String {
    let last = url.path().rsplit('/').next().unwrap_or_default();
    clean(&unescaped(last)).unwrap_or_else(|| NAMELESS.to_owned())
}

/// The name that a server gives its file, in Content-Disposition (RFC 6266): `filename*` if that is there, else `filename`.
pub(crate) fn of_disposition(value: &str) -> Option<String> {
    let parameter = |name: &str| {
        let parameters = parameters(value);
        parameters.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let extended = parameter("filename*").and_then(|value| {
        let (charset, rest) = value.split_once('\'')?;
        let (_language, name) = rest.split_once('\'')?;
        charset.eq_ignore_ascii_case("utf-8").then(|| unescaped(name))
    });
    clean(&extended.or_else(|| parameter("filename").map(String::into_bytes))?)
}

/// What stands behind the first semicolon; values without quotes and backslashes.
fn parameters(value: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((key, behind)) = rest.split_once('=') {
        let behind = behind.trim_start();
        let (value, after) = match behind.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => behind
                .split_once(';')
                .map_or((behind.trim().to_owned(), ""), |(value, rest)| (value.trim().to_owned(), rest)),
        };
        found.push((key.trim_matches([' ', '\t', ';']).to_owned(), value));
        rest = after;
    }
    found
}

/// A quoted string up to its end, and what stands behind it.
fn unquoted(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// With `%2e` and its like as the bytes that they stand for.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let escape =
            others.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let byte = escape.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = &others[if byte.is_some() { 2 } else { 0 }..];
    }
    bytes
}

/// A name in a directory, of whatever was given as one: without anything that is a path, hides the file, or moves a terminal's cursor. None
/// if nothing is left.
fn clean(name: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(name);
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = last.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
    while name.len() > LONGEST {
        name.pop();
    }
    let name = name.trim().trim_start_matches('.');
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_urls() {
        let name = |url: &str| of_url(&url.parse().unwrap());
        assert_eq!(name("http://a/b/c.iso?d=/e#f"), "c.iso");
        assert_eq!(name("http://a/b/%63%20d"), "c d");
        assert_eq!(name("http://a/100%"), "100%");
        for nameless in
            ["http://a", "http://a/", "http://a/b/", "http://a/b/..", "http://a/%2e%2e", "http://a/b/..%2f"]
        {
            assert_eq!(name(nameless), NAMELESS, "{nameless}");
        }
        assert_eq!(name("http://a/..%2f..%2fetc%2fpasswd"), "passwd");
        assert_eq!(name("http://a/.bashrc"), "bashrc");
        assert_eq!(name("http://a/a%00b%1b%5b2Jc"), "a_b_[2Jc");
        assert_eq!(name("http://a/%ff"), "\u{fffd}");
        assert!(name(&format!("http://a/{}", "%e2%98%83".repeat(100))).len() <= LONGEST);
    }

    #[test]
    fn names_of_servers() {
        let name = |value: &str| of_disposition(value);
        assert_eq!(name("attachment; filename=a.txt").as_deref(), Some("a.txt"));
        assert_eq!(name(r#"attachment; filename="a \"b\"; c.txt""#).as_deref(), Some(r#"a "b"; c.txt"#));
        assert_eq!(
            name(r#"attachment; filename="x"; filename*=UTF-8'de'%e2%98%83.txt"#).as_deref(),
            Some("\u{2603}.txt")
        );
        assert_eq!(name(r#"attachment; FileName = "a" ; size=3"#).as_deref(), Some("a"));
        assert_eq!(name(r#"attachment; filename="../../etc/passwd""#).as_deref(), Some("passwd"));
        assert_eq!(name(r#"attachment; filename="C:\\windows\\a.exe""#).as_deref(), Some("a.exe"));
        for none in
            ["attachment", "", "filename=a", "attachment; filename=", "attachment; filename=\"..\"", "a; =b"]
        {
            assert_eq!(name(none), None, "{none}");
        }
    }

    #[test]
    fn no_two_files_share_a_name() {
        let mut names = Names::default();
        let all = ["a", "a", "a.1", "a.part", "b.part.json", "b"].map(|name| names.take(name));
        assert_eq!(all, ["a", "a.1", "a.1.1", "a.part.1", "b.part.json", "b.1"]);
        let mut again = || ["a", "c", "a"].map(|called| names.take_for(called, "a.1"));
        assert_eq!(again(), ["a.1", "c", "a.1"]);
        assert_eq!(again(), ["a.1", "c", "a.1"]);
        assert_eq!(names.take("c"), "c.1");
    }
}
