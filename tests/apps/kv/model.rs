//! What a client may see: the model against which the hunt checks every answer.
//!
//! Each client has keys that no other client writes. What a key went through is a list of values, of which `low` says how
//! far it certainly got: an acknowledged write is certain, and so is what was read. A write whose answer never came may
//! happen at any time from its sending on, even after the client has come back on a new connection; so after one the key is
//! frozen, only read from then on, and a read must show `low` or something later.
//!
//! A key with a deadline is written once. It must be there until the time to live after it was sent, and gone after the
//! time to live after it was acknowledged, on the client's clock, which may run faster or slower by one part in `DRIFT`.
//!
//! All of it is memory of one run of the server; the next run begins with nothing.

use std::collections::BTreeMap;

use crate::client::Answer;

/// Clocks of different hosts agree on a duration up to this part of it.
const DRIFT: u64 = 100;

/// A violation, in words.
pub(crate) type Wrong = String;

/// What one client knows of its keys.
#[derive(Debug, Default)]
pub(crate) struct Model {
    keys: BTreeMap<String, History>,
    timed: BTreeMap<String, Timed>,
}

/// See the head of the file.
#[derive(Clone, Debug)]
struct History {
    values: Vec<Option<String>>,
    low: usize,
    frozen: bool,
}

#[derive(Clone, Debug)]
struct Timed {
    value: String,
    life: u64,
    sent: u64,
    /// None when the answer never came: then it may begin to live at any later time.
    acknowledged: Option<u64>,
}

/// A request of which the model knows what its answer may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Set(String, String),
    SetNew(String, String),
    Get(String),
    Del(String),
    Exists(String),
    SetTimed(String, String, u64),
    GetTimed(String),
}

/// When a request was sent and its answer was there, on the client's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Model {
    /// Whether a key may be written: no write to it is in doubt.
    pub(crate) fn is_certain(&self, key: &str) -> bool {
        self.keys.get(key).is_none_or(|history| !history.frozen)
    }

    /// Keys that have been written, those with deadlines too.
    pub(crate) fn requests_for_all(&self) -> Vec<Request> {
        let timed = self.timed.keys().cloned().map(Request::GetTimed);
        self.keys.keys().cloned().map(Request::Get).chain(timed).collect()
    }

    /// Checks an answer and learns from it.
    pub(crate) fn answered(&mut self, request: &Request, answer: &Answer, span: Span) -> Result<(), Wrong> {
        let known = format!("{request:?} was answered {answer:?}");
        let result = match request {
            Request::SetTimed(key, value, life) => {
                let timed = Timed {
                    value: value.clone(),
                    life: *life,
                    sent: span.sent,
                    acknowledged: Some(span.received),
                };
                self.timed.insert(key.clone(), timed);
                expect(answer == &Answer::Simple("OK".to_owned()), "a write says OK")
            }
            Request::GetTimed(key) => match self.timed.get(key) {
                Some(timed) => timed.check(answer, span),
                None => expect(answer == &Answer::Nil, "the key was never written"),
            },
            _ => self.keys.entry(request.key().to_owned()).or_default().answered(request, answer),
        };
        result.map_err(|why| format!("{known}, but {why}"))
    }

    /// A request was sent, and whether it was done is not known.
    pub(crate) fn in_doubt(&mut self, request: &Request, sent: u64) {
        if let Request::SetTimed(key, value, life) = request {
            let timed = Timed { value: value.clone(), life: *life, sent, acknowledged: None };
            self.timed.insert(key.clone(), timed);
        } else if request.writes() {
            let history = self.keys.entry(request.key().to_owned()).or_default();
            let last = history.values[history.values.len() - 1].clone();
            history.frozen = true;
            history.values.push(request.after(last));
        }
    }
}

impl Request {
    /// As it is sent.
    pub(crate) fn words(&self) -> Vec<String> {
        let words: &[&str] = match self {
            Request::Set(key, value) => &["SET", key, value],
            Request::SetNew(key, value) => &["SET", key, value, "NX"],
            Request::Get(key) | Request::GetTimed(key) => &["GET", key],
            Request::Del(key) => &["DEL", key],
            Request::Exists(key) => &["EXISTS", key],
            Request::SetTimed(key, value, life) => {
                &["SET", key, value, "PX", &(life / 1_000_000).to_string()]
            }
        };
        words.iter().map(|&word| word.to_owned()).collect()
    }

    pub(crate) fn key(&self) -> &str {
        match self {
            Request::Set(key, _) | Request::SetNew(key, _) | Request::SetTimed(key, ..) => key,
            Request::Get(key) | Request::GetTimed(key) | Request::Del(key) => key,
            Request::Exists(key) => key,
        }
    }

    pub(crate) fn writes(&self) -> bool {
        !matches!(self, Request::Get(_) | Request::GetTimed(_) | Request::Exists(_))
    }

    /// What the key holds after this request, if it held `before`.
    fn after(&self, before: Option<String>) -> Option<String> {
        match self {
            Request::Set(_, value) => Some(value.clone()),
            Request::SetNew(_, value) => before.or_else(|| Some(value.clone())),
            Request::Del(_) => None,
            _ => before,
        }
    }

    /// Whether this answer is right where the key held `before`.
    fn fits(&self, answer: &Answer, before: &Option<String>) -> bool {
        match (self, answer) {
            (Request::Get(_), Answer::Nil) => before.is_none(),
            (Request::Get(_), Answer::Bulk(bytes)) => {
                before.as_ref().is_some_and(|text| text.as_bytes() == bytes)
            }
            (Request::Set(..), Answer::Simple(text)) => text == "OK",
            (Request::SetNew(..), Answer::Simple(text)) => text == "OK" && before.is_none(),
            (Request::SetNew(..), Answer::Nil) => before.is_some(),
            (Request::Del(_) | Request::Exists(_), Answer::Integer(count)) => {
                *count == i64::from(before.is_some())
            }
            _ => false,
        }
    }
}

impl Default for History {
    fn default() -> History {
        History { values: vec![None], low: 0, frozen: false }
    }
}

impl History {
    fn answered(&mut self, request: &Request, answer: &Answer) -> Result<(), Wrong> {
        let mut possible =
            (self.low..self.values.len()).filter(|&index| request.fits(answer, &self.values[index]));
        let Some(index) = possible.next() else {
            let earlier = self.values[..self.low].iter().any(|value| request.fits(answer, value));
            let stale = if earlier { ", and this is older" } else { "" };
            return Err(format!("the key holds one of {:?}{stale}", &self.values[self.low..]));
        };
        self.low = index;
        if request.writes() {
            assert!(!self.frozen, "a key in doubt is not written");
            let after = request.after(self.values[index].clone());
            self.values.push(after);
            self.low = self.values.len() - 1;
        }
        Ok(())
    }
}

impl Timed {
    fn check(&self, answer: &Answer, span: Span) -> Result<(), Wrong> {
        let slack = self.life / DRIFT + 1_000_000;
        match answer {
            Answer::Nil => {
                // If the write is in doubt, it may not have happened.
                let must_live = self.acknowledged.is_some() && span.received + slack < self.sent + self.life;
                expect(!must_live, &format!("it lives for {} ns from {} on", self.life, self.sent))
            }
            Answer::Bulk(bytes) if *bytes == self.value.as_bytes() => match self.acknowledged {
                Some(at) => expect(span.sent <= at + self.life + slack, "its time to live was over"),
                None => Ok(()),
            },
            _ => Err(format!("it holds {:?}", self.value)),
        }
    }
}

fn expect(holds: bool, why: &str) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(why.to_owned()) }
}
