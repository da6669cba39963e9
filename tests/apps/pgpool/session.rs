//! A client's session, after its login: it waits for a request, has a server connection for a transaction or for good, and passes on what
//! both say, in one coroutine.
//!
//! While it has a server connection it waits for either side. What has come is scanned and sent on with one write. A transaction pool's
//! connection is given back before the client gets the end of the answer: others need not wait until it has read that.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use machinarium::sync::select::select_deadline;
use machinarium::{Instant, WaitError, shield, timeout};

use crate::client::{Client, State};
use crate::config::PoolMode;
use crate::failure::{Failure, code};
use crate::inbox::{Inbox, SIZE};
use crate::message::put_ready;
use crate::params::Params;
use crate::pool::{Lease, Pool, Seat};
use crate::pooler::Pooler;
use crate::replies::Replies;
use crate::requests::{Book, Requests};
use crate::server::Server;
use crate::statements::Names;
use crate::stats::Stats;
use crate::wire::Wire;

/// How long a client that is sent away may take to hear why.
pub(crate) const GOODBYE: Duration = Duration::from_secs(1);

/// See the head of the file.
pub(crate) struct Session {
    pooler: Rc<Pooler>,
    client: Rc<Client>,
    pool: Rc<Pool>,
    wire: Wire,
    inbox: Inbox,
    mode: PoolMode,
    names: Names,
    requests: Requests,
    replies: Replies,
    params: Rc<Params>,
    seat: Seat,
    /// What is sent, where it is not what came.
    out: Vec<u8>,
    /// Whether the client has whole messages: in the middle of one, an error would be taken for the rest of it.
    between: Cell<bool>,
}

/// What a session that has a server connection has waited for.
enum Event {
    FromServer,
    FromClient,
    /// The server takes more.
    Room,
}

impl Session {
    /// Serves a client that has shown who it is, until it leaves or is told why not.
    pub(crate) fn run(
        pooler: Rc<Pooler>,
        client: Rc<Client>,
        pool: Rc<Pool>,
        (wire, inbox): (Wire, Inbox),
        requested: &Params,
    ) {
        let mode = pool.settings().target.database.mode;
        let shares = mode == PoolMode::Transaction;
        let mut session = Session {
            pooler,
            client,
            pool,
            wire,
            inbox,
            mode,
            names: Names::default(),
            requests: Requests::new(shares),
            replies: Replies::new(!shares),
            params: Rc::default(),
            seat: Seat::new(),
            out: Vec::new(),
            between: Cell::new(true),
        };
        let patience = session.pooler.config().timeouts.client_write;
        let limited = session.wire.set_write_timeout(patience).map_err(Failure::from);
        let lived = limited.and_then(|()| session.welcome(requested)).and_then(|()| session.live());
        if let Err(failure) = lived {
            session.say_goodbye(&failure);
        }
        session.wire.close();
    }

    fn welcome(&mut self, requested: &Params) -> Result<(), Failure> {
        let welcome = self.pool.welcome(self.client.id, &self.seat, requested)?;
        let mut out = Vec::new();
        self.client.put_login(&mut out);
        welcome.params.put(&welcome.reported, &mut out);
        put_ready(&mut out, b'I');
        self.params = welcome.params;
        Ok(self.give(&out, true)?)
    }

    fn live(&mut self) -> Result<(), Failure> {
        while self.wait_for_request()? {
            self.client.state.set(State::Waiting);
            let lease = match self.lease() {
                Err(Failure::Cancelled) if self.refuse(&Failure::Cancelled)? => continue,
                Err(Failure::Cancelled) => break,
                leased => leased?,
            };
            self.client.hold(Some(lease.server()));
            let went = self.exchange(lease);
            self.client.hold(None);
            if !went? {
                break;
            }
        }
        Ok(())
    }

    /// Waits until the client wants something. False: it has left.
    fn wait_for_request(&mut self) -> Result<bool, Failure> {
        self.client.state.set(State::Idle);
        loop {
            if self.pooler.is_ending() {
                return Err(self.pooler.farewell());
            }
            match self.inbox.bytes().first() {
                Some(b'X') => return Ok(false),
                // The rest of a COPY that the server has ended: servers skip it, too.
                Some(b'd' | b'c' | b'f') => {
                    self.inbox.skip(&self.wire)?;
                    continue;
                }
                _ => {}
            }
            if self.inbox.has_message()? || self.inbox.is_full() {
                return Ok(true);
            }
            let patience = self.pooler.config().timeouts.client_idle;
            let waited = self.wire.readable().wait_deadline(end_of(patience));
            waited.map_err(|error| told_of(error, code::IDLE, "client_idle", patience))?;
            if self.inbox.fill(&self.wire)? == 0 {
                return Ok(false);
            }
        }
    }

    /// A server connection with the client's parameters.
    fn lease(&mut self) -> Result<Lease, Failure> {
        // One that came before was for what is answered.
        self.client.cancelled.set(false);
        let lease = self.pool.lease(self.client.id, &self.seat)?;
        let server = lease.server();
        let is_same = Rc::ptr_eq(&server.params.borrow(), &self.params);
        if !is_same {
            let applied = server.apply(&self.params, self.pool.settings().cancel);
            let applied = applied.inspect_err(|error| server.doom(&error.to_string()))?;
            self.params = applied.map_err(|(code, text)| {
                server.doom("it refuses a client's parameters");
                Failure::OfServer { code, text }
            })?;
        }
        if self.client.cancelled.get() { Err(Failure::Cancelled) } else { Ok(lease) }
    }

    /// Answers what the client has asked for with an error, and skips what belongs to it, as a server does. False: it has left.
    fn refuse(&mut self, failure: &Failure) -> Result<bool, Failure> {
        failure.put(&mut self.out);
        self.give(&self.out, true)?;
        self.out.clear();
        let mut is_first = true;
        loop {
            match self.inbox.skip(&self.wire)? {
                None | Some(b'X') => return Ok(false),
                Some(b'Q' | b'F') if is_first => break,
                Some(b'S') => break,
                Some(_) => is_first = false,
            }
        }
        put_ready(&mut self.out, b'I');
        self.give(&self.out, true)?;
        self.out.clear();
        Ok(true)
    }

    /// Passes on what both sides say, until the server connection is another's to have. False: the client has left.
    fn exchange(&mut self, lease: Lease) -> Result<bool, Failure> {
        self.client.state.set(State::Active);
        let server = lease.server().clone();
        let mut lease = Some(lease);
        loop {
            if !self.send(&server)? {
                return Ok(false);
            }
            // Nothing answers the rest of a COPY that has failed.
            if self.inbox.is_empty() && server.inbox.borrow().is_empty() && self.has_done(&server) {
                self.release(&server, &mut lease);
                return Ok(true);
            }
            match self.wait(&server)? {
                Event::FromServer => {
                    self.answer(&server, &mut lease)?;
                    if lease.is_none() {
                        return Ok(true);
                    }
                }
                Event::FromClient if self.inbox.fill(&self.wire)? == 0 => return Ok(false),
                Event::FromClient => {}
                Event::Room => server.wire.never_wait(),
            }
        }
    }

    /// Sends the server what has come from the client. False: that was its goodbye.
    fn send(&mut self, server: &Server) -> Result<bool, Failure> {
        if self.inbox.is_empty() {
            return Ok(true);
        }
        let catalogue = &self.pooler.catalogue;
        let book = Book { client: self.client.id, names: &mut self.names, catalogue };
        let batch = self.requests.scan(self.inbox.bytes(), server, book, &mut self.out)?;
        let verbatim = &self.inbox.bytes()[batch.verbatim];
        let bytes = if self.out.is_empty() { verbatim } else { &self.out[..] };
        if !bytes.is_empty() {
            server.wire.write_all(bytes).map_err(lost)?;
            Stats::add(&self.pool.stats.received, bytes.len() as u64);
        }
        self.inbox.consume(batch.used);
        reuse(&mut self.out);
        Ok(!batch.ends)
    }

    /// Waits for whoever can go on. A server that takes nothing gets nothing more, but is heard.
    fn wait(&self, server: &Server) -> Result<Event, Failure> {
        let (code, name, patience) = self.patience(server);
        let mut from_server = server.wire.readable();
        let (first, other) = if server.wire.is_full() {
            let mut room = server.wire.has_room();
            (select_deadline(&mut [&mut from_server, &mut room], end_of(patience)), Event::Room)
        } else {
            let mut from_client = self.wire.readable();
            (select_deadline(&mut [&mut from_server, &mut from_client], end_of(patience)), Event::FromClient)
        };
        match first {
            Ok(0) => Ok(Event::FromServer),
            Ok(_) => Ok(other),
            Err(error) => Err(told_of(error, code, name, patience)),
        }
    }

    /// How long nothing may come, and what a client is told then.
    fn patience(&self, server: &Server) -> (&'static str, &'static str, Option<Duration>) {
        let flow = server.flow.borrow();
        let limits = &self.pooler.config().timeouts;
        if flow.is_free() {
            (code::IDLE, "client_idle", limits.client_idle)
        } else if flow.is_answered() {
            (code::IDLE_IN_TRANSACTION, "idle_in_transaction", limits.idle_in_transaction)
        } else {
            (code::TIMEOUT, "query", limits.query)
        }
    }

    /// Gives the client what has come from the server. The lease ends when there is nothing more to come.
    fn answer(&mut self, server: &Rc<Server>, lease: &mut Option<Lease>) -> Result<(), Failure> {
        let mut inbox = server.inbox.take();
        if inbox.fill(&server.wire).map_err(lost)? == 0 {
            return Err(Failure::told(code::CONNECTION, "the server has closed the connection"));
        }
        let scanned =
            self.replies.scan(inbox.bytes(), server, &mut self.names, &self.pool.stats, &mut self.out);
        let answer = scanned.map_err(lost)?;
        if answer.used == inbox.bytes().len() && self.has_done(server) {
            self.release(server, lease);
        }
        let verbatim = &inbox.bytes()[answer.verbatim];
        let bytes = if self.out.is_empty() { verbatim } else { &self.out[..] };
        if !bytes.is_empty() {
            self.give(bytes, !self.replies.are_within()).map_err(|error| self.not_taken(error))?;
            Stats::add(&self.pool.stats.sent, bytes.len() as u64);
        }
        reuse(&mut self.out);
        inbox.consume(answer.used);
        if lease.is_some() {
            *server.inbox.borrow_mut() = inbox;
        }
        Ok(())
    }

    /// Sends the client what comes next, and whether a message ends with it.
    fn give(&self, bytes: &[u8], ends: bool) -> io::Result<()> {
        self.between.set(false);
        self.wire.write_all(bytes)?;
        self.between.set(ends);
        Ok(())
    }

    /// Why an answer did not go to the client.
    fn not_taken(&self, error: io::Error) -> Failure {
        let patience = self.wire.write_timeout().ok().flatten();
        match patience.filter(|_| error.kind() == io::ErrorKind::TimedOut) {
            Some(patience) => Failure::told(
                code::IDLE,
                format!("the client has taken nothing for {patience:?} (client_write)"),
            ),
            None => error.into(),
        }
    }

    /// Lets others have the server connection.
    fn release(&mut self, server: &Server, lease: &mut Option<Lease>) {
        self.params = server.params.borrow().clone();
        self.client.hold(None);
        *lease = None;
    }

    /// Whether the server connection may go to another client.
    fn has_done(&self, server: &Server) -> bool {
        server.flow.borrow().is_free() && (self.mode == PoolMode::Transaction || self.pooler.is_ending())
    }

    /// Tells the client why this is the end, if it still listens and has no half of a message.
    fn say_goodbye(&self, failure: &Failure) {
        if let Failure::Told(_, text) = failure {
            self.pooler.say(&format!("{}: {text}", self.client));
        }
        if !self.between.get() {
            return;
        }
        let mut out = Vec::new();
        failure.put(&mut out);
        // A client that was cancelled is to hear why; how long that takes is not up to it.
        let _ = shield(|| timeout(GOODBYE, || self.wire.write_all(&out)));
    }
}

fn reuse(out: &mut Vec<u8>) {
    out.clear();
    out.shrink_to(SIZE);
}

fn end_of(patience: Option<Duration>) -> Instant {
    patience.map_or(Instant::FAR, |patience| machinarium::now() + patience)
}

/// What a client is told when a wait has ended: that it took too long, if that is it.
fn told_of(error: WaitError, code: &'static str, name: &str, patience: Option<Duration>) -> Failure {
    match (error, patience) {
        (WaitError::Expired(_), Some(patience)) => {
            Failure::told(code, format!("nothing has come for {patience:?} ({name})"))
        }
        (error, _) => error.into(),
    }
}

/// What a client is told when its server connection has failed.
fn lost(error: io::Error) -> Failure {
    match machinarium::cancelled(&error) {
        Some(_) => Failure::Io(error),
        None => Failure::told(code::CONNECTION, format!("the server connection has failed: {error}")),
    }
}
