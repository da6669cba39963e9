//! A reader of the JSON lines that hunts have written.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// A value. Numbers are whole and not negative; `true` and `false` are left out, and so is `null`, which is nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Json {
    Nothing,
    Number(u64),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// The value that `text` is; `None` if it is none of those above.
    pub(super) fn parse(text: &str) -> Option<Json> {
        let mut letters = text.chars().peekable();
        let value = value(&mut letters)?;
        skip(&mut letters);
        letters.next().is_none().then_some(value)
    }

    /// What an object has by that name.
    pub(super) fn get(&self, name: &str) -> &Json {
        match self {
            Json::Object(members) => members.get(name).unwrap_or(&Json::Nothing),
            _ => &Json::Nothing,
        }
    }

    /// A number; 0 if it is none.
    pub(super) fn number(&self) -> u64 {
        if let Json::Number(number) = self { *number } else { 0 }
    }

    /// A text; empty if it is none.
    pub(super) fn as_text(&self) -> &str {
        if let Json::Text(text) = self { text } else { "" }
    }
}

type Letters<'a> = Peekable<Chars<'a>>;

fn skip(letters: &mut Letters<'_>) {
    while letters.next_if(|letter| letter.is_ascii_whitespace()).is_some() {}
}

/// Whether this comes next, which is then passed.
fn passes(letters: &mut Letters<'_>, wanted: char) -> bool {
    skip(letters);
    letters.next_if_eq(&wanted).is_some()
}

fn value(letters: &mut Letters<'_>) -> Option<Json> {
    skip(letters);
    match letters.peek()? {
        '"' => string(letters).map(Json::Text),
        'n' => "null".chars().all(|letter| letters.next() == Some(letter)).then_some(Json::Nothing),
        '[' => Some(Json::List(members(letters, ']', value)?)),
        '{' => {
            let member = |letters: &mut Letters<'_>| {
                skip(letters);
                let name = string(letters)?;
                passes(letters, ':').then(|| value(letters))?.map(|value| (name, value))
            };
            Some(Json::Object(members(letters, '}', member)?.into_iter().collect()))
        }
        _ => {
            let mut digits = String::new();
            while let Some(digit) = letters.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            digits.parse().ok().map(Json::Number)
        }
    }
}

fn members<T>(
    letters: &mut Letters<'_>,
    end: char,
    one: impl Fn(&mut Letters<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    letters.next();
    let mut all = Vec::new();
    if passes(letters, end) {
        return Some(all);
    }
    loop {
        all.push(one(letters)?);
        if passes(letters, end) {
            return Some(all);
        }
        if !passes(letters, ',') {
            return None;
        }
    }
}

fn string(letters: &mut Letters<'_>) -> Option<String> {
    letters.next_if_eq(&'"')?;
    let mut text = String::new();
    loop {
        match letters.next()? {
            '"' => return Some(text),
            '\\' => match letters.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'u' => {
                    let digits: String = letters.by_ref().take(4).collect();
                    text.push(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32)?);
                }
                letter @ ('"' | '\\' | '/') => text.push(letter),
                _ => return None,
            },
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::json::text;

    #[test]
    fn strings_come_back() {
        for sample in ["", "a \"b\" \\ \n</script>\u{1} é"] {
            assert_eq!(Json::parse(&text(sample)), Some(Json::Text(sample.to_owned())));
        }
    }

    #[test]
    fn what_is_written_is_read_and_nonsense_is_not() {
        let line =
            Json::parse(r#" {"kind":"hunt", "seeds":10,"shard":null,"faults":{"Loss":2},"list":[1,[],{}]} "#)
                .unwrap();
        assert_eq!((line.get("kind").as_text(), line.get("seeds").number()), ("hunt", 10));
        assert_eq!(line.get("faults").get("Loss").number(), 2);
        assert_eq!((line.get("shard"), line.get("nowhere").as_text()), (&Json::Nothing, ""));
        for nonsense in ["", "{", "{\"a\":}", "[1,]", "{} {}", "\"open", "-1", "{\"a\" 1}", "truth"] {
            assert_eq!(Json::parse(nonsense), None, "{nonsense}");
        }
    }
}
