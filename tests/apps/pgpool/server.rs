//! A connection to a server: what the pooler knows of it, and the few things that it asks of it for itself.
//!
//! One client has it at a time, or nobody. What is shared beyond that is how many cancel requests are on their way to it: until the last
//! of them is known to have come, nobody else gets it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use machinarium::sync::WaitList;
use machinarium::{Instant, timeout};

use crate::flow::Flow;
use crate::inbox::{Inbox, invalid};
use crate::message::{self, HEADER, Header, put, read_error, take_text};
use crate::params::Params;
use crate::statements::Prepared;
use crate::wire::Wire;

/// The longest message that the pooler looks into.
pub(crate) const LONGEST: usize = 1 << 20;

/// See the head of the file.
pub(crate) struct Server {
    pub(crate) id: u64,
    pub(crate) wire: Wire,
    /// What a cancel request has to show.
    pub(crate) key: (u32, u32),
    pub(crate) opened: Instant,
    /// Of the configuration that it was opened by.
    pub(crate) generation: Cell<u64>,
    pub(crate) used: Cell<Instant>,
    pub(crate) inbox: RefCell<Inbox>,
    pub(crate) flow: RefCell<Flow>,
    pub(crate) prepared: RefCell<Prepared>,
    /// What it had at its login.
    pub(crate) defaults: Rc<Params>,
    pub(crate) params: RefCell<Rc<Params>>,
    /// Something of a client may be left there after its transaction.
    pub(crate) touched: Cell<bool>,
    /// Why it is closed when its client has done.
    pub(crate) doomed: RefCell<Option<String>>,
    /// Who has it.
    pub(crate) client: Cell<Option<u64>>,
    /// How many cancel requests are on their way. Waited for until it is 0.
    cancels: WaitList,
}

/// Kept while a cancel request is on its way to a server.
pub(crate) struct Cancelling {
    server: Rc<Server>,
    arrived: bool,
}

impl Server {
    pub(crate) fn new(id: u64, wire: Wire, inbox: Inbox, key: (u32, u32), defaults: Params) -> Server {
        wire.never_wait();
        let (now, defaults) = (machinarium::now(), Rc::new(defaults));
        Server {
            id,
            wire,
            key,
            opened: now,
            generation: Cell::new(0),
            used: Cell::new(now),
            inbox: RefCell::new(inbox),
            flow: RefCell::new(Flow::new()),
            prepared: RefCell::default(),
            params: RefCell::new(defaults.clone()),
            defaults,
            touched: Cell::new(false),
            doomed: RefCell::new(None),
            client: Cell::new(None),
            cancels: WaitList::new(0),
        }
    }

    /// Has it closed when its client has done; the first reason stays.
    pub(crate) fn doom(&self, reason: &str) {
        self.doomed.borrow_mut().get_or_insert_with(|| reason.to_owned());
    }

    /// Gives it the parameters that a client wants, within some time, and says what they are then.
    ///
    /// # Errors
    /// `Ok(Err(..))`: the server says no.
    pub(crate) fn apply(
        &self,
        wanted: &Rc<Params>,
        patience: Duration,
    ) -> io::Result<Result<Rc<Params>, (String, String)>> {
        let current = self.params.borrow().clone();
        if Rc::ptr_eq(&current, wanted) {
            return Ok(Ok(current));
        }
        if let Some(sql) = wanted.query(&current, &self.defaults)
            && let Err(refusal) = timeout(patience, || self.ask(&sql))?
        {
            return Ok(Err(refusal));
        }
        let settled = wanted.settled(&self.params.borrow(), &self.defaults);
        let settled = if settled == **wanted { wanted.clone() } else { Rc::new(settled) };
        *self.params.borrow_mut() = settled.clone();
        Ok(Ok(settled))
    }

    /// Sends a query of the pooler's own and reads all of its answer. Nobody else is in a call.
    pub(crate) fn ask(&self, sql: &str) -> io::Result<Result<(), (String, String)>> {
        let mut query = Vec::new();
        message::put_query(&mut query, sql);
        self.wire.write_all(&query)?;
        let mut result = Ok(());
        loop {
            let mut inbox = self.inbox.borrow_mut();
            let header = inbox.message(&self.wire, LONGEST)?;
            let body = inbox.body(header);
            match header.kind {
                b'E' => result = Err(read_error(body)),
                b'S' => self.reported(body),
                b'C' => drop(self.forgets(body)),
                b'Z' if body != b"I" => return Err(invalid("the server is in a transaction".to_owned())),
                _ => {}
            }
            inbox.consume(header.total);
            if header.kind == b'Z' {
                return Ok(result);
            }
        }
    }

    /// Undoes whatever a client may have left.
    ///
    /// # Errors
    /// `Ok(Err(..))`: the server says no.
    pub(crate) fn reset(&self, query: &str) -> io::Result<Result<(), (String, String)>> {
        if let Err(refusal) = self.ask(query)? {
            return Ok(Err(refusal));
        }
        let params = self.params.borrow().reported(&self.defaults);
        *self.params.borrow_mut() = params;
        self.touched.set(false);
        Ok(Ok(()))
    }

    /// Whether the command with this tag has the server forget all statements. It is noted.
    pub(crate) fn forgets(&self, tag: &[u8]) -> bool {
        let all = matches!(tag, b"DISCARD ALL\0" | b"DEALLOCATE ALL\0");
        if all {
            self.prepared.borrow_mut().forget_all();
        }
        all
    }

    /// Notes a ParameterStatus.
    pub(crate) fn reported(&self, mut body: &[u8]) {
        let pair = take_text(&mut body).and_then(|name| Some((name, take_text(&mut body)?)));
        if let Some((name, value)) = pair {
            let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            let changed = self.params.borrow().with(&name, &value);
            *self.params.borrow_mut() = changed;
        }
    }

    /// Looks at what has come while nobody had it: notices and parameters are fine.
    ///
    /// # Errors
    /// Why it is of no use any more.
    pub(crate) fn look(&self) -> Result<(), String> {
        let mut inbox = self.inbox.borrow_mut();
        while self.wire.has_input() {
            match inbox.fill(&self.wire) {
                Ok(0) => return Err("the server has closed the connection".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
            while let Some(header) = Header::of(inbox.bytes()).map_err(|error| error.to_string())? {
                if inbox.bytes().len() < header.total {
                    break;
                }
                let body = &inbox.bytes()[HEADER..header.total];
                match header.kind {
                    b'N' | b'A' => {}
                    b'S' => self.reported(body),
                    b'E' => return Err(format!("the server says: {}", read_error(body).1)),
                    kind => return Err(format!("the server has sent {:?} unasked", char::from(kind))),
                }
                inbox.consume(header.total);
            }
        }
        if inbox.is_empty() { Ok(()) } else { Err("the server has sent half a message".to_owned()) }
    }

    /// Whether cancel requests are on their way.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancels.get() > 0
    }

    /// Waits until none is.
    pub(crate) fn wait_for_cancels(&self) -> io::Result<()> {
        loop {
            match self.cancels.get() {
                0 => return Ok(()),
                some => self.cancels.wait(some)?,
            }
        }
    }

    /// A cancel request is about to be sent.
    pub(crate) fn cancelling(self: &Rc<Server>) -> Cancelling {
        self.cancels.update(|count| Some(count + 1)).expect("it is always raised");
        Cancelling { server: self.clone(), arrived: false }
    }

    /// Tells the server that nothing more comes. It is closed when it is dropped.
    pub(crate) fn say_goodbye(&self) {
        // It would be taken for the rest of what the client did not send, and done.
        if self.flow.borrow().within {
            return;
        }
        let mut goodbye = Vec::new();
        put(&mut goodbye, b'X', |_| {});
        let _ = self.wire.write_all(&goodbye);
    }
}

impl Cancelling {
    /// The server has closed the connection of the request: what it asks for has happened.
    pub(crate) fn arrived(mut self) {
        self.arrived = true;
    }
}

impl Drop for Cancelling {
    fn drop(&mut self) {
        if !self.arrived {
            self.server.doom("a cancel request may still be on its way");
        }
        let _ = self.server.cancels.update(|count| count.checked_sub(1));
        self.server.cancels.notify_all();
    }
}
