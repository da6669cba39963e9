//! Parameters of a session: what a client has asked for, what a server connection has now, and what to ask of a server so that the second
//! becomes the first.
//!
//! A set is immutable and shared: most clients of a pool have the same one as the server that they get, which is one comparison of pointers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::rc::Rc;

use crate::message::{put, put_text};

/// Those that a server reports and that belong to a client: they are set again at each checkout. What else a server reports is the
/// server's own.
const OF_CLIENTS: [&str; 6] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "standard_conforming_strings",
    "TimeZone",
];

/// Names and values. Names as the server writes them, if it reports them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) struct Params(BTreeMap<String, String>);

impl Params {
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let known = OF_CLIENTS.iter().find(|known| known.eq_ignore_ascii_case(name));
        self.0.insert(known.map_or(name, |known| *known).to_owned(), value.to_owned());
    }

    /// With one that has changed. The same set, if it has not.
    pub(crate) fn with(self: &Rc<Params>, name: &str, value: &str) -> Rc<Params> {
        if self.0.get(name).is_some_and(|current| current == value) {
            return self.clone();
        }
        let mut changed = Params::clone(self);
        changed.set(name, value);
        Rc::new(changed)
    }

    /// These, and what `others` has besides or instead.
    pub(crate) fn and(&self, others: &Params) -> Params {
        let mut all = self.clone();
        all.0.extend(others.0.clone());
        all
    }

    /// What to ask of a server that has `current`, so that it has these. `defaults`: what it had at its login. `None`: nothing.
    pub(crate) fn query(&self, current: &Params, defaults: &Params) -> Option<String> {
        let mut sql = String::new();
        let wanted = self.0.iter().filter(|(name, value)| current.0.get(*name) != Some(value));
        for (name, value) in wanted.filter(|(name, _)| is_settable(name, defaults)) {
            let separator = if sql.is_empty() { "SELECT " } else { ", " };
            write!(sql, "{separator}pg_catalog.set_config({}, {}, false)", literal(name), literal(value))
                .expect("a text takes all");
        }
        // What another client has set, and this one has not asked for.
        for name in current.0.keys().filter(|name| !self.0.contains_key(*name)) {
            let separator = if sql.is_empty() { "" } else { "; " };
            write!(sql, "{separator}RESET \"{}\"", name.replace('"', "\"\"")).expect("a text takes all");
        }
        (!sql.is_empty()).then_some(sql)
    }

    /// Only those that a server reports. `defaults`: what it reported at its login.
    pub(crate) fn reported(&self, defaults: &Rc<Params>) -> Rc<Params> {
        let reported = self.0.iter().filter(|(name, _)| defaults.0.contains_key(*name));
        let reported = Params(reported.map(|(name, value)| (name.clone(), value.clone())).collect());
        if reported == **defaults { defaults.clone() } else { Rc::new(reported) }
    }

    /// What a server has that was asked for these, and reports `current` now: values as it writes them.
    pub(crate) fn settled(&self, current: &Params, defaults: &Params) -> Params {
        let settle = |(name, value): (&String, &String)| {
            let reported = current.0.get(name).filter(|_| defaults.0.contains_key(name));
            (name.clone(), reported.unwrap_or(value).clone())
        };
        Params(self.0.iter().map(settle).collect())
    }

    /// Appends a ParameterStatus for each that a server has reported.
    pub(crate) fn put(&self, reported: &Params, out: &mut Vec<u8>) {
        for (name, value) in self.0.iter().filter(|(name, _)| reported.0.contains_key(*name)) {
            put(out, b'S', |body| {
                put_text(body, name.as_bytes());
                put_text(body, value.as_bytes());
            });
        }
    }

    #[cfg(test)]
    fn of(pairs: &[(&str, &str)]) -> Params {
        let mut params = Params::default();
        pairs.iter().for_each(|(name, value)| params.set(name, value));
        params
    }
}

/// What a server reports and clients have no say in (`server_version`) is never asked for.
fn is_settable(name: &str, reported: &Params) -> bool {
    OF_CLIENTS.contains(&name) || !reported.0.contains_key(name)
}

/// A literal that means the same whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_for_what_differs() {
        let defaults =
            Params::of(&[("client_encoding", "UTF8"), ("server_version", "15.1"), ("TimeZone", "UTC")]);
        assert_eq!(defaults.query(&defaults, &defaults), None);
        let wanted = defaults.and(&Params::of(&[("timezone", "a'\\b"), ("server_version", "9"), ("x", "1")]));
        let sql = "SELECT pg_catalog.set_config('TimeZone', E'a''\\\\b', false), pg_catalog.set_config('x', '1', false)";
        assert_eq!(wanted.query(&defaults, &defaults).unwrap(), sql);
        assert_eq!(
            defaults.query(&defaults.and(&Params::of(&[("x\"", "1")])), &defaults).unwrap(),
            "RESET \"x\"\"\""
        );
    }

    #[test]
    fn a_set_that_has_not_changed_is_the_same() {
        let params = Rc::new(Params::of(&[("TimeZone", "UTC")]));
        assert!(Rc::ptr_eq(&params, &params.with("TimeZone", "UTC")));
        assert_eq!(params.with("TimeZone", "CET").0["TimeZone"], "CET");
    }
}
