//! What a client of the hunt knows of its own notes: what was answered, and what may have happened besides.
//!
//! A request without an answer may be done at any later time, or never: from then on a note is one of several, and the client leaves it alone.
//! A note that was made without an answer has no number yet; whoever is seen with its text is it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// A note as the server tells of it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Note {
    pub(crate) id: u64,
    pub(crate) text: String,
}

/// The text of a note; `None`: it is not there.
type State = Option<String>;

/// See the head of the file.
#[derive(Default)]
pub(crate) struct Model {
    /// By number: what it may be.
    notes: BTreeMap<u64, Vec<State>>,
    /// What was sent to be made, and not answered.
    unanswered: BTreeSet<String>,
}

impl Model {
    /// Those of which it is known what they are.
    pub(crate) fn known(&self) -> Vec<u64> {
        self.notes.iter().filter(|(_, states)| states.len() == 1).map(|(id, _)| *id).collect()
    }

    /// Whether the note is known to be there.
    pub(crate) fn is_there(&self, id: u64) -> bool {
        self.notes.get(&id).is_some_and(|states| states.len() == 1 && states[0].is_some())
    }

    pub(crate) fn made(&mut self, note: &Note, text: &str) {
        assert_eq!(note.text, text, "another note came back than was sent");
        let before = self.notes.insert(note.id, vec![Some(text.to_owned())]);
        assert!(before.is_none(), "the number {} was given twice", note.id);
    }

    pub(crate) fn may_be_made(&mut self, text: &str) {
        self.unanswered.insert(text.to_owned());
    }

    pub(crate) fn is(&mut self, id: u64, state: State) {
        self.notes.insert(id, vec![state]);
    }

    pub(crate) fn may_be(&mut self, id: u64, state: State) {
        self.notes.entry(id).or_default().push(state);
    }

    /// What was read.
    pub(crate) fn check(&self, id: u64, state: &State) {
        let may = &self.notes[&id];
        assert!(may.contains(state), "note {id} is {state:?} and must be one of {may:?}");
    }

    /// All that are there, of this client, whose texts begin with its name.
    pub(crate) fn check_all(&self, all: &[Note], name: &str) {
        let there: BTreeMap<u64, &Note> = all.iter().map(|note| (note.id, note)).collect();
        for id in self.notes.keys() {
            self.check(*id, &there.get(id).map(|note| note.text.clone()));
        }
        for note in all.iter().filter(|note| note.text.starts_with(name)) {
            let known = self.notes.contains_key(&note.id) || self.unanswered.contains(&note.text);
            assert!(known, "nobody has made {note:?}");
        }
    }
}
