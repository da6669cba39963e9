//! Keys that all clients write: what they did to them, as one history for each run of the server.
//!
//! A client's own keys (`model.rs`) show what one client may see of its own writes; these show that all clients see the writes of
//! all in one order. A run of the server begins with nothing, so each has a history of its own, and is checked by itself when the
//! world has ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use machinarium_sim::history::{Client, History, KeyValue, KeyValueAnswer, KeyValueCall};

use crate::client::Answer;
use crate::model::Wrong;

pub(crate) type Call = KeyValueCall<String, String>;
pub(crate) type Pending = machinarium_sim::history::Pending<Model>;
type Model = KeyValue<String, String>;

/// How many keys there are at a time.
const KEYS: usize = 3;

/// After so many calls that were never answered come other keys: what is open on one key makes the search for an order long.
const OPEN: usize = 6;

/// All histories. The clients are simulated hosts, but this is the test's own memory.
#[derive(Clone, Default)]
#[allow(clippy::disallowed_types, reason = "locked for a look, never across a call")]
pub(crate) struct Together(Arc<std::sync::Mutex<BTreeMap<String, Run>>>);

/// What was done to one run of the server.
struct Run {
    history: History<Model>,
    /// Calls that were never answered.
    open: usize,
}

impl Together {
    fn with<R>(&self, run: &str, look: impl FnOnce(&mut Run) -> R) -> R {
        let mut runs = self.0.lock().expect("no client panics while it looks");
        let fresh = || Run { history: History::new(KeyValue::new()), open: 0 };
        look(runs.entry(run.to_owned()).or_insert_with(fresh))
    }

    /// One who writes the history of this run.
    pub(crate) fn client(&self, run: &str, name: &str) -> Client<Model> {
        self.with(run, |run| run.history.client(name))
    }

    /// The `pick`-th of the keys that are used just now.
    pub(crate) fn key(&self, run: &str, pick: usize) -> String {
        let generation = self.with(run, |run| run.open / OPEN);
        format!("together{}", generation * KEYS + pick % KEYS)
    }

    /// All keys that have been used with this run.
    pub(crate) fn keys(&self, run: &str) -> Vec<String> {
        let generation = self.with(run, |run| run.open / OPEN);
        (0..(generation + 1) * KEYS).map(|number| format!("together{number}")).collect()
    }

    /// A call was sent, and whether it was done is not known.
    pub(crate) fn in_doubt(&self, run: &str, pending: Pending) {
        drop(pending);
        self.with(run, |run| run.open += 1);
    }

    /// All runs of the server did what one store would.
    pub(crate) fn check(&self) {
        let runs = self.0.lock().expect("no client panics while it looks");
        runs.values().for_each(|run| run.history.assert_linearizable());
    }
}

/// As it is sent.
pub(crate) fn words(call: &Call) -> Vec<String> {
    let words: &[&str] = match call {
        Call::Get(key) => &["GET", key],
        Call::Put(key, value) => &["SET", key, value],
        Call::PutNew(key, value) => &["SET", key, value, "NX"],
        Call::Remove(key) => &["DEL", key],
    };
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Writes what came of a call.
pub(crate) fn answered(pending: Pending, call: &Call, answer: &Answer) -> Result<(), Wrong> {
    let told = match (call, answer) {
        (Call::Get(_), Answer::Nil) => KeyValueAnswer::Value(None),
        (Call::Get(_), Answer::Bulk(bytes)) => {
            KeyValueAnswer::Value(Some(String::from_utf8_lossy(bytes).into_owned()))
        }
        (Call::Put(..) | Call::PutNew(..), Answer::Simple(text)) if text == "OK" => KeyValueAnswer::Done,
        (Call::PutNew(..), Answer::Nil) => KeyValueAnswer::NotDone,
        (Call::Remove(_), Answer::Integer(0)) => KeyValueAnswer::NotDone,
        (Call::Remove(_), Answer::Integer(1)) => KeyValueAnswer::Done,
        _ => return Err(format!("{call:?} was answered {answer:?}")),
    };
    pending.answered(told);
    Ok(())
}
