//! Prepared statements of transaction pools: a client's name, the statement, and the name that all servers know it by.
//!
//! ```text
//!   client A: "S_1" --+
//!                     +--> statement 7: query and types --> "pgpool_7", on those servers that have got it
//!   client B: "q"   --+
//! ```
//!
//! A machine has each statement once, however many clients prepare it. A server gets it when the first client needs it there, and
//! loses the one unused for longest when it has too many. A client's Close takes away its name; the statement stays with the servers.
//!
//! The unnamed statement is the server connection's own: whoever parsed it last is noted, and another client that means its own gets
//! that parsed again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use crate::config::Bug;
use crate::flow::Undo;
use crate::traces;

/// How many statements a server connection keeps.
pub(crate) const KEPT: usize = 200;

/// With [`Bug::WrongName`], so many bytes that are the same make a statement the same.
const ALIKE: usize = 12;

/// The longest Parse that is held as a whole.
pub(crate) const LONGEST: usize = 16 << 20;

/// A statement that a client has prepared.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) id: u64,
    /// The body of its Parse after the name: the query and the types of its parameters.
    pub(crate) text: Box<[u8]>,
    /// Whether it may leave something after its transaction.
    pub(crate) leaves: bool,
}

/// All statements of a machine.
pub(crate) struct Catalogue {
    statements: RefCell<BTreeMap<Box<[u8]>, Weak<Statement>>>,
    next: std::cell::Cell<u64>,
    bug: Option<Bug>,
}

impl Catalogue {
    pub(crate) fn new(bug: Option<Bug>) -> Catalogue {
        Catalogue { statements: RefCell::default(), next: std::cell::Cell::new(0), bug }
    }

    /// The statement of a Parse.
    pub(crate) fn statement(&self, text: &[u8]) -> Rc<Statement> {
        let mut statements = self.statements.borrow_mut();
        let key = if self.bug == Some(Bug::WrongName) { &text[..text.len().min(ALIKE)] } else { text };
        if let Some(known) = statements.get(key).and_then(Weak::upgrade) {
            return known;
        }
        let id = self.next.get();
        self.next.set(id + 1);
        let statement = Rc::new(Statement { id, text: text.into(), leaves: traces::may_be_left_by(text) });
        // Those that nobody has any more are forgotten now and then.
        if id.is_multiple_of(64) {
            statements.retain(|_, statement| statement.strong_count() > 0);
        }
        statements.insert(key.into(), Rc::downgrade(&statement));
        statement
    }
}

/// The name that servers know a statement by.
pub(crate) fn server_name(id: u64) -> String {
    format!("pgpool_{id}")
}

/// Of one client: its names, and its unnamed statement.
#[derive(Default)]
pub(crate) struct Names {
    named: BTreeMap<Box<[u8]>, Rc<Statement>>,
    /// The whole Parse, for servers on which another client has parsed its own since. Empty: none.
    pub(crate) unnamed: Vec<u8>,
}

impl Names {
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Rc<Statement>> {
        self.named.get(name)
    }

    pub(crate) fn set(&mut self, name: &[u8], statement: Rc<Statement>) {
        self.named.insert(name.into(), statement);
    }

    /// Takes it away, and says what it meant.
    pub(crate) fn forget(&mut self, name: &[u8]) -> Option<Rc<Statement>> {
        self.named.remove(name)
    }

    /// Has a name mean what it meant.
    pub(crate) fn undo(&mut self, Undo { name, meant }: Undo) {
        match meant {
            Some(statement) => drop(self.named.insert(name, statement)),
            None if name.is_empty() => self.unnamed.clear(),
            None => drop(self.named.remove(&name)),
        }
    }

    pub(crate) fn forget_all(&mut self) {
        self.named.clear();
        self.unnamed.clear();
    }
}

/// Which statements a server connection has, and when each was used.
#[derive(Default)]
pub(crate) struct Prepared {
    used: BTreeMap<u64, u64>,
    time: u64,
    /// Whose the unnamed statement is.
    pub(crate) unnamed: Option<u64>,
}

impl Prepared {
    /// Whether it has this one, which is used now.
    pub(crate) fn use_now(&mut self, id: u64) -> bool {
        self.time += 1;
        let time = self.time;
        self.used.get_mut(&id).map(|used| *used = time).is_some()
    }

    pub(crate) fn add(&mut self, id: u64) {
        self.time += 1;
        self.used.insert(id, self.time);
    }

    pub(crate) fn forget(&mut self, id: u64) {
        self.used.remove(&id);
    }

    pub(crate) fn len(&self) -> usize {
        self.used.len()
    }

    pub(crate) fn forget_all(&mut self) {
        self.used.clear();
        self.unnamed = None;
    }

    /// Takes out the one that was unused for longest, if there are too many.
    pub(crate) fn surplus(&mut self) -> Option<u64> {
        if self.used.len() < KEPT {
            return None;
        }
        let id = self.used.iter().min_by_key(|(_, used)| **used).map(|(id, _)| *id)?;
        self.used.remove(&id);
        Some(id)
    }
}
