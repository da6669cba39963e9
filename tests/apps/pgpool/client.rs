//! A client as the rest of the pooler sees it: who it is, what it does, and which server connection it has.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use machinarium::{Instant, JoinHandle};

use crate::message::put;
use crate::pool::Pool;
use crate::server::Server;

/// One that is logged in. On the machine of its session.
pub(crate) struct Client {
    pub(crate) id: u64,
    /// What a cancel request has to show to reach it.
    pub(crate) key: (u32, u32),
    pub(crate) peer: SocketAddr,
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) is_tls: bool,
    pub(crate) since: Instant,
    pub(crate) state: Cell<State>,
    /// A cancel request has come while it waited.
    pub(crate) cancelled: Cell<bool>,
    /// The server connection that does what it asks for, and nothing of the pooler's own.
    held: RefCell<Option<Rc<Server>>>,
    /// Its session.
    pub(crate) session: RefCell<Option<JoinHandle<()>>>,
}

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Login,
    /// It asks for nothing, and has no server connection.
    Idle,
    /// It waits for one.
    Waiting,
    Active,
}

impl Client {
    pub(crate) fn new(
        id: u64,
        key: (u32, u32),
        peer: SocketAddr,
        (database, user): (&str, &str),
        is_tls: bool,
    ) -> Client {
        Client {
            id,
            key,
            peer,
            database: database.to_owned(),
            user: user.to_owned(),
            is_tls,
            since: machinarium::now(),
            state: Cell::new(State::Login),
            cancelled: Cell::new(false),
            held: RefCell::new(None),
            session: RefCell::new(None),
        }
    }

    pub(crate) fn hold(&self, server: Option<&Rc<Server>>) {
        *self.held.borrow_mut() = server.cloned();
    }

    pub(crate) fn held(&self) -> Option<Rc<Server>> {
        self.held.borrow().clone()
    }

    /// Appends AuthenticationOk and BackendKeyData.
    pub(crate) fn put_login(&self, out: &mut Vec<u8>) {
        put(out, b'R', |body| body.extend([0; 4]));
        put(out, b'K', |body| {
            body.extend(self.key.0.to_be_bytes());
            body.extend(self.key.1.to_be_bytes());
        });
    }

    pub(crate) fn is_of(&self, pool: &Pool) -> bool {
        (&self.database, &self.user) == (&pool.database, &pool.user)
    }

    /// Whether it can be sent away without loss.
    pub(crate) fn is_idle(&self) -> bool {
        self.state.get() == State::Idle || self.held().is_some_and(|server| server.flow.borrow().is_free())
    }

    /// Ends its session, whatever it does.
    pub(crate) fn kill(&self, cause: &str) {
        if let Some(session) = &*self.session.borrow() {
            // Of another machine it cannot be; one that has ended is ended.
            let _ = session.cancel(cause.to_owned());
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}/{})", self.peer, self.database, self.user)
    }
}
