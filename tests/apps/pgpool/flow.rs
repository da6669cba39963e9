//! Where the conversation with a server stands: which replies are still to come, and whether it could be handed to another client.
//!
//! | what was sent | what is expected |
//! |---|---|
//! | Query, FunctionCall | ReadyForQuery, also after an error |
//! | Sync | ReadyForQuery; an error before it takes away all that was expected up to here |
//! | Parse, Close (if statements are shared) | one reply each, which the client may see, see as the other one, or not see |
//! | CopyDone, CopyFail | nothing; but a Sync that the server reads before it, while it copies, is not answered |
//!
//! Where the answer depends on what cannot be known (a Query behind a message that has no Sync yet), the connection is *pinned*: it
//! stays with its client, and is closed after it.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::statements::{Prepared, Statement};

/// See the head of the file.
pub(crate) struct Flow {
    expected: VecDeque<Expected>,
    /// Of the last ReadyForQuery: `I` idle, `T` in a transaction, `E` in one that has failed.
    pub(crate) status: u8,
    /// Something was sent that no Sync has followed yet.
    open: bool,
    /// The server takes the data of a COPY.
    copies: bool,
    /// The server waits for the rest of a message.
    pub(crate) within: bool,
    pub(crate) pinned: bool,
}

/// A reply that is to come.
#[derive(Debug)]
pub(crate) enum Expected {
    Ready { sync: bool },
    Parsed(Parsed),
    Closed(Closed),
    CopyEnd,
}

/// The reply to a Parse.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// Whether the client has asked for it.
    pub(crate) shown: bool,
    /// Which statement the server does not have, should this fail. `None`: the unnamed one.
    pub(crate) statement: Option<u64>,
    pub(crate) undo: Option<Undo>,
}

/// The reply to a Close.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) shown: Shown,
    /// Which statement the server still has, should this not be done.
    pub(crate) statement: Option<u64>,
    pub(crate) undo: Option<Undo>,
}

/// What a name of the client's means again, should a Parse or a Close not be done. No name: its unnamed statement, which is nothing then.
#[derive(Debug)]
pub(crate) struct Undo {
    pub(crate) name: Box<[u8]>,
    pub(crate) meant: Option<Rc<Statement>>,
}

/// What a client sees of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shown {
    AsIs,
    /// The reply to a Parse.
    AsParsed,
    Not,
}

impl Flow {
    /// Of a connection that is logged in.
    pub(crate) fn new() -> Flow {
        Flow {
            expected: VecDeque::new(),
            status: b'I',
            open: false,
            copies: false,
            within: false,
            pinned: false,
        }
    }

    /// Whether the next message could be another client's.
    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        self.status == b'I' && self.is_answered() && !self.within && !self.pinned
    }

    /// Whether nothing more comes unless the client sends something.
    #[inline]
    pub(crate) fn is_answered(&self) -> bool {
        self.expected.is_empty() && !self.open
    }

    /// A Query or a FunctionCall was sent.
    pub(crate) fn query(&mut self) {
        self.pinned |= self.open;
        self.expected.push_back(Expected::Ready { sync: false });
    }

    pub(crate) fn sync(&mut self) {
        if self.copies {
            // Not answered, if the server reads it in time. Should it have failed before, it is, and that cannot be known.
            return;
        }
        self.open = false;
        self.expected.push_back(Expected::Ready { sync: true });
    }

    /// A message was sent that a Sync must follow.
    pub(crate) fn extended(&mut self) {
        self.open = true;
    }

    pub(crate) fn copy_end(&mut self) {
        self.copies = false;
        // One that comes when nothing is to be answered is of a COPY that has failed.
        if !self.is_answered() {
            self.expected.push_back(Expected::CopyEnd);
        }
    }

    pub(crate) fn expect(&mut self, expected: Expected) {
        self.open = true;
        self.expected.push_back(expected);
    }

    /// ReadyForQuery has come.
    pub(crate) fn ready(&mut self, status: u8) {
        self.status = status;
        self.copies = false;
        while let Some(expected) = self.expected.pop_front() {
            match expected {
                Expected::Ready { .. } => return self.forget_copy_ends(),
                Expected::CopyEnd => {}
                // A reply that has not come.
                Expected::Parsed(_) | Expected::Closed(_) => self.pinned = true,
            }
        }
        // One more than was asked for: an unanswered Sync that was answered after all.
        self.pinned = true;
    }

    /// CopyInResponse has come: the Syncs that the server reads before the end of the data are not answered. So does libpq send one.
    pub(crate) fn copy_in(&mut self) {
        self.copies = true;
        let mut behind = VecDeque::new();
        while let Some(expected) = self.expected.pop_front() {
            match expected {
                Expected::Ready { sync: true } => {}
                Expected::CopyEnd => {
                    self.copies = false;
                    behind.push_back(Expected::CopyEnd);
                    behind.append(&mut self.expected);
                }
                other => behind.push_back(other),
            }
        }
        self.expected = behind;
        self.open |= !self.expected.iter().any(|expected| matches!(expected, Expected::Ready { .. }));
    }

    /// An ErrorResponse has come. Returns what is to be undone, in this order.
    pub(crate) fn failed(&mut self, prepared: &mut Prepared) -> Vec<Undo> {
        let mut undone = Vec::new();
        if self.copies {
            // Whether a Sync that was sent meanwhile is answered cannot be known.
            self.copies = false;
            self.pinned |= !self.expected.iter().any(|expected| matches!(expected, Expected::Ready { .. }));
        }
        while let Some(expected) =
            self.expected.pop_front_if(|first| !matches!(first, Expected::Ready { .. }))
        {
            match expected {
                Expected::Parsed(Parsed { statement, undo, .. }) => {
                    match statement {
                        Some(statement) => prepared.forget(statement),
                        // If it was skipped, the server has that of whoever was there before.
                        None => prepared.unnamed = None,
                    }
                    undone.extend(undo);
                }
                Expected::Closed(Closed { statement, undo, .. }) => {
                    statement.into_iter().for_each(|statement| prepared.add(statement));
                    undone.extend(undo);
                }
                Expected::CopyEnd | Expected::Ready { .. } => {}
            }
        }
        undone.reverse();
        undone
    }

    /// ParseComplete has come.
    pub(crate) fn parsed(&mut self) -> Option<Parsed> {
        self.skip_copy_ends();
        match self.expected.pop_front_if(|first| matches!(first, Expected::Parsed(_)))? {
            Expected::Parsed(parsed) => Some(parsed),
            _ => unreachable!("it was looked at"),
        }
    }

    /// CloseComplete has come.
    pub(crate) fn closed(&mut self) -> Option<Closed> {
        self.skip_copy_ends();
        match self.expected.pop_front_if(|first| matches!(first, Expected::Closed(_)))? {
            Expected::Closed(closed) => Some(closed),
            _ => unreachable!("it was looked at"),
        }
    }

    /// Of a Query's COPY, the end was sent behind what was expected of the Query: with that it is over.
    fn forget_copy_ends(&mut self) {
        if !self.open && self.expected.iter().all(|expected| matches!(expected, Expected::CopyEnd)) {
            self.expected.clear();
        }
    }

    fn skip_copy_ends(&mut self) {
        while self.expected.pop_front_if(|first| matches!(first, Expected::CopyEnd)).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Q, S, E (Execute), c: sent; <: the half of a message, >: the rest. G, e (an error), Z: received. `?`: nobody else may have the connection here; `.`: another one may.
    #[track_caller]
    fn check(scene: &str) {
        let (mut flow, mut prepared) = (Flow::new(), Prepared::default());
        for (place, letter) in scene.chars().enumerate() {
            match letter {
                'Q' => flow.query(),
                'S' => flow.sync(),
                'E' => flow.extended(),
                'c' => flow.copy_end(),
                '<' | '>' => flow.within = letter == '<',
                'G' => flow.copy_in(),
                'e' => drop(flow.failed(&mut prepared)),
                'Z' => flow.ready(b'I'),
                '?' => assert!(!flow.is_free(), "{scene}: free at {place}"),
                '.' => assert!(flow.is_free(), "{scene}: not free at {place}"),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn a_connection_is_free_when_all_is_answered() {
        check(".Q?Z.E?S?Z.QQ?Z?Z.E?QZ?");
        check("EESES?eZ?Z.");
    }

    #[test]
    fn the_end_of_a_copy_is_answered_with_its_query() {
        check("Q?G?c?Z.");
        check("Qc?G?Z.QcQ?GZ?Z.");
        check("EScS?G?Z.");
        check("ES?G?cS?Z.");
    }

    /// What the next client sends would be the rest.
    #[test]
    fn half_a_message_is_nobody_elses() {
        check("<?>.Q?GeZ.<?>.");
    }

    /// Close of `a`, which meant 1, Parse of `a` as 2, and Parse of the unnamed statement: none of them is done.
    #[test]
    fn what_was_skipped_is_undone_in_reverse() {
        let statement = |id| Rc::new(Statement { id, text: Box::default(), leaves: false });
        let (mut flow, mut prepared) = (Flow::new(), Prepared::default());
        prepared.unnamed = Some(7);
        prepared.add(2);
        let undo = |name: &[u8], meant| Some(Undo { name: name.into(), meant });
        let closed = Closed { shown: Shown::AsIs, statement: None, undo: undo(b"a", Some(statement(1))) };
        flow.expect(Expected::Closed(closed));
        let parsed = |statement, undo| Expected::Parsed(Parsed { shown: true, statement, undo });
        flow.expect(parsed(Some(2), undo(b"a", None)));
        flow.expect(parsed(None, undo(b"", None)));
        let undone = flow.failed(&mut prepared);
        let meant = undone.iter().map(|undo| (&undo.name[..], undo.meant.as_ref().map(|found| found.id)));
        assert_eq!(meant.collect::<Vec<_>>(), [(&b""[..], None), (b"a", None), (b"a", Some(1))]);
        assert!(prepared.unnamed.is_none() && !prepared.use_now(2));
    }

    #[test]
    fn what_is_left_of_a_copy_that_has_failed() {
        check("Q?GeZ.c.Q?Z.");
        check("Qc?GeZ.ES?Z.");
    }
}
