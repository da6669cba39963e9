//! What is to be downloaded, as people write it: a URL, and behind it the file's SHA-256, if that is known.

use ureq::http::Uri;

use crate::config::Target;

/// A target from a line or an argument.
///
/// # Errors
/// In words, if it is none.
pub(crate) fn target(text: &str) -> Result<Target, String> {
    let (url, sum) = match text.trim().split_once(char::is_whitespace) {
        Some((url, sum)) => (url, Some(sum.trim())),
        None => (text.trim(), None),
    };
    let about = |what: &str| format!("{url:?}: {what}");
    if !url.contains("://") {
        return Err(about("no URL: write http:// or https:// before it"));
    }
    let uri: Uri = url.parse().map_err(|error| {
        about(&format!("no URL: {error}; write spaces and letters beyond ASCII as %20 and their like"))
    })?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(about("only http and https are known"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(about("names and passwords in a URL are not sent to anybody"));
    }
    let sha256 = sum.map(|sum| sha256(sum).map_err(|what| about(&what))).transpose()?;
    Ok(Target { url: uri, sha256 })
}

/// All targets of a list: one a line, without empty lines and those that begin with `#`.
///
/// # Errors
/// That of the first line that is wrong, with its number.
pub(crate) fn targets(list: &str) -> Result<Vec<Target>, String> {
    let lines =
        list.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.trim().starts_with('#'));
    lines.map(|(number, line)| target(line).map_err(|what| format!("line {}: {what}", number + 1))).collect()
}

/// Of 64 digits.
pub(crate) fn sha256(text: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("a SHA-256 has 64 hexadecimal digits: {text:?} is none");
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut sum = [0; 32];
    for (place, byte) in sum.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).map_err(|_| wrong())?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let sum = "0123456789abcdef".repeat(4);
        let all = targets(&format!("# all\n\n http://a/b \nhttps://c:8443/d\t{sum}\n")).unwrap();
        assert_eq!(
            all.iter().map(|target| target.url.to_string()).collect::<Vec<_>>(),
            ["http://a/b", "https://c:8443/d"]
        );
        assert_eq!(all[0].sha256, None);
        assert_eq!(all[1].sha256.unwrap()[..3], [0x01, 0x23, 0x45]);
    }

    #[test]
    fn what_is_no_target_is_told() {
        for (line, told) in [
            ("a/b", "write http://"),
            ("ftp://a/b", "only http and https"),
            ("http://", "no URL"),
            ("http://a b", "64 hexadecimal digits"),
            ("http://\u{e4}/", "no URL"),
            ("http://me:secret@a/", "not sent"),
            (&format!("http://a/ {}", "g".repeat(64)), "64 hexadecimal digits"),
            (&format!("http://a/ {}", "\u{e4}".repeat(32)), "64 hexadecimal digits"),
        ] {
            let error = targets(&format!("\n{line}")).unwrap_err();
            assert!(
                error.starts_with("line 2: ") && error.contains(told) && error.lines().count() == 1,
                "{error}"
            );
        }
    }
}
