//! Just enough of JSON to write it: strings, and numbers that keep their nanoseconds.
//!
//! Not by a crate for it: `serde_json` gives numbers comparisons with its own values, and with it in the tree `assert_eq!(bytes, [])`
//! of a user's test no longer compiles.

use std::fmt::Write as _;

/// A string, quoted. What would end a script element of a page is written so that it does not.
pub(crate) fn text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '<' => quoted += "\\u003c",
            letter if letter < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", letter as u32);
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Nanoseconds as microseconds.
pub(super) fn micros(nanos: u64) -> String {
    format!("{}.{:03}", nanos / 1_000, nanos % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_stay_strings() {
        assert_eq!(text("a \"b\" \\ \n</script>\u{1}"), r#""a \"b\" \\ \n\u003c/script>\u0001""#);
        assert_eq!(micros(1_002_003), "1002.003");
    }
}
