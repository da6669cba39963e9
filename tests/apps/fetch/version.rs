//! Versions of what is at a URL: how two of them are told apart, and whether an answer goes on where an earlier one was cut.
//!
//! A download goes on only with a *strong* validator (RFC 9110, 8.8 and 13.1.5): an ETag that is not weak, or else a date of the last
//! change that is older, by the server's own clock, than the answer that told it: had the file changed again within that second, nobody
//! could tell. The server compares it (If-Range) and sends the rest, or a whole new version; what it sends is checked here once more,
//! since not every server, nor every cache before it, does that right.

use httpdate::parse_http_date;
use serde::{Deserialize, Serialize};
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderName, LAST_MODIFIED};
use ureq::http::{HeaderMap, Response};

/// What an answer tells of the version that it has.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Version {
    /// Strong ones only.
    pub(crate) etag: Option<String>,
    pub(crate) modified: Option<String>,
    /// How many bytes it has, if that is known.
    pub(crate) total: Option<u64>,
}

/// The part that a 206 has: from its first byte to its last, and of how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) total: Option<u64>,
}

impl Version {
    /// That of a whole answer.
    pub(crate) fn of<B>(answer: &Response<B>) -> Version {
        let headers = answer.headers();
        let etag = text(headers, &ETAG).filter(|etag| is_strong(etag)).map(str::to_owned);
        let modified = text(headers, &LAST_MODIFIED).filter(|modified| is_settled(modified, headers));
        Version { etag, modified: modified.map(str::to_owned), total: length(headers) }
    }

    /// What If-Range says; without it a download can only begin again.
    pub(crate) fn validator(&self) -> Option<&str> {
        self.etag.as_deref().or(self.modified.as_deref())
    }

    /// Whether a 206 is a part of this version, as far as its headers tell.
    pub(crate) fn agrees<B>(&self, answer: &Response<B>) -> bool {
        let headers = answer.headers();
        match &self.etag {
            // A server must say it (RFC 9110, 15.3.7).
            Some(etag) => text(headers, &ETAG) == Some(etag),
            None => text(headers, &LAST_MODIFIED)
                .is_none_or(|modified| self.modified.as_deref() == Some(modified)),
        }
    }

    /// Whether a part goes on at `offset` of this version, as far as the numbers tell.
    pub(crate) fn fits(&self, part: Part, offset: u64) -> bool {
        let end = part.total.or(self.total).unwrap_or(u64::MAX);
        let same_total = part.total.zip(self.total).is_none_or(|(one, other)| one == other);
        part.first == offset && part.first <= part.last && part.last < end && same_total
    }
}

impl Part {
    /// Of a 206; none if it has several parts, or is not as it must be.
    pub(crate) fn of<B>(answer: &Response<B>) -> Option<Part> {
        let part = Part::parse(text(answer.headers(), &CONTENT_RANGE)?)?;
        let length = length(answer.headers());
        let says_the_same =
            length.is_none_or(|length| part.last.checked_sub(part.first) == length.checked_sub(1));
        says_the_same.then_some(part)
    }

    fn parse(text: &str) -> Option<Part> {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let total = if total == "*" { None } else { Some(total.parse().ok()?) };
        Some(Part { first: first.parse().ok()?, last: last.parse().ok()?, total })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers, &CONTENT_LENGTH)?.parse().ok()
}

fn is_strong(etag: &str) -> bool {
    etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"')
}

/// Whether a file that was last changed then cannot change again and still bear that date.
fn is_settled(modified: &str, headers: &HeaderMap) -> bool {
    let told = text(headers, &DATE).and_then(|date| parse_http_date(date).ok());
    let modified = parse_http_date(modified).ok();
    told.zip(modified)
        .is_some_and(|(told, modified)| told.duration_since(modified).is_ok_and(|age| age.as_secs() >= 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: &str = "Tue, 15 Nov 1994 12:45:26 GMT";
    const LATER: &str = "Tue, 15 Nov 1994 12:45:27 GMT";

    fn answer(headers: &[(&str, &str)]) -> Response<()> {
        let builder = Response::builder();
        headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).unwrap()
    }

    fn validator(headers: &[(&str, &str)]) -> Option<String> {
        Version::of(&answer(headers)).validator().map(str::to_owned)
    }

    #[test]
    fn only_what_is_strong_is_a_validator() {
        assert_eq!(
            validator(&[("etag", "\"a\""), ("last-modified", THEN), ("date", LATER)]),
            Some("\"a\"".to_owned())
        );
        assert_eq!(validator(&[("etag", "W/\"a\"")]), None);
        assert_eq!(validator(&[("etag", "\"")]), None);
        assert_eq!(validator(&[("last-modified", THEN), ("date", LATER)]), Some(THEN.to_owned()));
        assert_eq!(validator(&[("last-modified", THEN), ("date", THEN)]), None);
        assert_eq!(validator(&[("last-modified", LATER), ("date", THEN)]), None);
        assert_eq!(validator(&[("last-modified", THEN)]), None);
        assert_eq!(validator(&[("last-modified", "yesterday"), ("date", LATER)]), None);
        assert_eq!(validator(&[]), None);
    }

    #[test]
    fn a_part_of_another_version_is_seen() {
        let version =
            Version { etag: Some("\"a\"".to_owned()), modified: Some(THEN.to_owned()), total: Some(10) };
        assert!(version.agrees(&answer(&[("etag", "\"a\"")])));
        assert!(!version.agrees(&answer(&[("etag", "\"b\"")])));
        assert!(!version.agrees(&answer(&[("last-modified", THEN)])));
        let version = Version { etag: None, ..version };
        assert!(version.agrees(&answer(&[])));
        assert!(version.agrees(&answer(&[("last-modified", THEN)])));
        assert!(!version.agrees(&answer(&[("last-modified", LATER)])));
    }

    #[test]
    fn a_part_goes_on_where_it_should_or_not_at_all() {
        let part = |range| Part::of(&answer(&[("content-range", range)]));
        let version = Version { total: Some(10), ..Version::default() };
        let fits = |range| part(range).is_some_and(|part| version.fits(part, 4));
        assert!(fits("bytes 4-9/10"));
        assert!(fits("bytes 4-9/*"));
        assert!(fits("bytes 4-4/10"), "a server may send less than was asked for");
        for wrong in
            ["bytes 5-9/10", "bytes 4-9/11", "bytes 4-10/10", "bytes 4-3/10", "bytes 4-10/*", "bytes */10"]
        {
            assert!(!fits(wrong), "{wrong}");
        }
        for wrong in
            ["", "bytes", "bytes 4-9", "bytes -/10", "bytes 4-99999999999999999999/*", "items 4-9/10"]
        {
            assert_eq!(part(wrong), None, "{wrong}");
        }
        let with_length =
            |length| Part::of(&answer(&[("content-range", "bytes 4-9/10"), ("content-length", length)]));
        assert!(with_length("6").is_some() && with_length("5").is_none() && with_length("0").is_none());
    }
}
