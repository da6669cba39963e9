//! One machine's connections to one database as one user, and the clients that wait for them, first come, first served.
//!
//! | a server connection is | then |
//! |---|---|
//! | being opened | it goes to whoever waits longest, or is idle |
//! | leased to a client | given back: if nothing is left of the client, as above; else it is closed |
//! | settling: it was given back, and a cancel request is on its way, or it is being reset | as when it was opened |
//! | idle | leased; or closed, because of its age, its server, or PAUSE |
//!
//! A lease that ends in whatever way gives its connection back here, so nothing has to remember to. What is opened, leased, settling and idle
//! is at most the machine's share of the pool's size; all shares together are that size. A machine with clients that wait does not get
//! what idles on another one: it would have to be moved, for each transaction.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use machinarium::sync::channel::RecvError;
use machinarium::sync::channel::local::{Receiver, Sender, bounded};
use machinarium::{Instant, WaitError, timeout};

use crate::cancel;
use crate::config::Bug;
use crate::connect::{Refused, Target};
use crate::failure::{Failure, code};
use crate::params::Params;
use crate::server::Server;
use crate::stats::Stats;

/// How many sets of parameters are remembered.
const WELCOMES: usize = 64;

/// See the head of the file.
pub(crate) struct Pool {
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) settings: RefCell<Rc<Settings>>,
    idle: RefCell<Vec<Rc<Server>>>,
    /// All connections, those that are being opened too.
    total: Cell<usize>,
    opening: Cell<usize>,
    queue: RefCell<VecDeque<(u64, Sender<Grant>)>>,
    paused: Cell<bool>,
    /// Of the configuration: connections of an earlier one are closed when they can be.
    generation: Cell<u64>,
    /// What clients have asked for at their logins, and what they got.
    welcomes: RefCell<BTreeMap<Params, Welcome>>,
    pub(crate) stats: Stats,
}

/// What a configuration says of a pool.
pub(crate) struct Settings {
    pub(crate) target: Target,
    /// This machine's shares.
    pub(crate) size: usize,
    pub(crate) min_size: usize,
    pub(crate) connect: Option<Duration>,
    pub(crate) query_wait: Option<Duration>,
    pub(crate) server_idle: Option<Duration>,
    pub(crate) server_lifetime: Option<Duration>,
    pub(crate) cancel: Duration,
    pub(crate) say: fn(&str),
    pub(crate) bug: Option<Bug>,
}

/// What a client has at its login.
#[derive(Clone)]
pub(crate) struct Welcome {
    pub(crate) params: Rc<Params>,
    /// What the server reports.
    pub(crate) reported: Rc<Params>,
}

/// A server connection that a client has. Given back when it is dropped.
pub(crate) struct Lease {
    pool: Rc<Pool>,
    server: Option<Rc<Server>>,
}

type Grant = Result<Lease, Failure>;

/// Where a client waits: one for all its life.
pub(crate) struct Seat {
    sender: Sender<Grant>,
    receiver: Receiver<Grant>,
}

impl Seat {
    pub(crate) fn new() -> Seat {
        let (sender, receiver) = bounded(1);
        Seat { sender, receiver }
    }
}

impl Lease {
    pub(crate) fn server(&self) -> &Rc<Server> {
        self.server.as_ref().expect("a lease has its server until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.pool.take_back(server);
        }
    }
}

impl Pool {
    pub(crate) fn new(database: &str, user: &str, settings: Settings) -> Rc<Pool> {
        Rc::new(Pool {
            database: database.to_owned(),
            user: user.to_owned(),
            settings: RefCell::new(Rc::new(settings)),
            idle: RefCell::default(),
            total: Cell::new(0),
            opening: Cell::new(0),
            queue: RefCell::default(),
            paused: Cell::new(false),
            generation: Cell::new(0),
            welcomes: RefCell::default(),
            stats: Stats::default(),
        })
    }

    /// A server connection for a client, after those who have waited before.
    pub(crate) fn lease(self: &Rc<Pool>, client: u64, seat: &Seat) -> Result<Lease, Failure> {
        if self.settings().size == 0 {
            return Err(self.nothing_here());
        }
        if self.queue.borrow().is_empty()
            && !self.paused.get()
            && let Some(server) = self.take_idle()
        {
            return Ok(self.lend(server, client));
        }
        let most = self.settings().target.database.max_waiting;
        if self.queue.borrow().len() >= most {
            let text = format!("{most} clients wait already for a connection to {self} (max_waiting)");
            return Err(Failure::told(code::TOO_MANY, text));
        }
        self.wait(client, seat)
    }

    fn wait(self: &Rc<Pool>, client: u64, seat: &Seat) -> Result<Lease, Failure> {
        let (began, patience) = (machinarium::now(), self.settings().query_wait);
        let mut place = Place { pool: self, client, seat, left: false };
        self.queue.borrow_mut().push_back((client, seat.sender.clone()));
        self.open_more();
        let end = patience.map_or(Instant::FAR, |patience| began + patience);
        let granted = seat.receiver.recv_deadline(end);
        // Whoever grants something has taken it out of the queue.
        place.left = granted.is_ok();
        self.stats.waited(machinarium::now() - began);
        match granted {
            Ok(granted) => granted,
            Err(RecvError::Wait(WaitError::Expired(_))) => {
                let text = format!(
                    "no connection to {self} was free for {:?} (query_wait)",
                    patience.unwrap_or_default()
                );
                Err(Failure::told(code::TIMEOUT, text))
            }
            Err(error) => Err(Failure::Io(error.into())),
        }
    }

    /// Ends the wait of a client, if it waits.
    pub(crate) fn cancel(&self, client: u64) {
        let mut queue = self.queue.borrow_mut();
        if let Some(place) = queue.iter().position(|(waiter, _)| *waiter == client)
            && let Some((_, sender)) = queue.remove(place)
        {
            drop(sender.try_send(Err(Failure::Cancelled)));
        }
    }

    /// What a client has that has asked for these parameters at its login.
    pub(crate) fn welcome(
        self: &Rc<Pool>,
        client: u64,
        seat: &Seat,
        requested: &Params,
    ) -> Result<Welcome, Failure> {
        if let Some(known) = self.welcomes.borrow().get(requested) {
            return Ok(known.clone());
        }
        let lease = self.lease(client, seat)?;
        let server = lease.server();
        let reported = server.defaults.clone();
        let params = match server.apply(&Rc::new(reported.and(requested)), self.settings().cancel) {
            Ok(Ok(params)) => params,
            Ok(Err((code, text))) => return Err(Failure::OfServer { code, text }),
            Err(error) => {
                server.doom(&error.to_string());
                return Err(Failure::Io(error));
            }
        };
        let welcome = Welcome { params, reported };
        let mut welcomes = self.welcomes.borrow_mut();
        if welcomes.len() >= WELCOMES {
            welcomes.clear();
        }
        welcomes.insert(requested.clone(), welcome.clone());
        Ok(welcome)
    }

    pub(crate) fn settings(&self) -> Rc<Settings> {
        self.settings.borrow().clone()
    }

    /// What a new configuration says. Connections of another one are closed when they can be.
    pub(crate) fn set(self: &Rc<Pool>, settings: Settings) {
        let old = self.settings.replace(Rc::new(settings));
        if !old.target.is_same(&self.settings().target) {
            self.generation.set(self.generation.get() + 1);
            self.welcomes.borrow_mut().clear();
            self.close_idle("the configuration has changed");
        }
        if self.settings().size == 0 {
            self.refuse_all(|| self.nothing_here());
        }
        self.open_more();
    }

    /// Lets nobody have a connection, and closes all that are free, now or later.
    pub(crate) fn pause(self: &Rc<Pool>) {
        self.paused.set(true);
        self.close_idle("PAUSE");
    }

    pub(crate) fn resume(self: &Rc<Pool>) {
        self.paused.set(false);
        self.open_more();
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    pub(crate) fn total(&self) -> usize {
        self.total.get()
    }

    pub(crate) fn opening(&self) -> usize {
        self.opening.get()
    }

    pub(crate) fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.borrow().len()
    }

    pub(crate) fn idle_servers(&self) -> Vec<Rc<Server>> {
        self.idle.borrow().clone()
    }

    /// What is to be done now and then: closes what is old, unused or broken, and opens what is missing.
    pub(crate) fn tend(self: &Rc<Pool>) {
        let settings = self.settings();
        let now = machinarium::now();
        let servers = std::mem::take(&mut *self.idle.borrow_mut());
        for server in servers {
            let over =
                |since: Instant, limit: Option<Duration>| limit.is_some_and(|limit| now - since >= limit);
            if over(server.used.get(), settings.server_idle) && self.total.get() > settings.min_size {
                self.close(&server, "idle for too long", false);
            } else if let Err(reason) = self.check(&server) {
                self.close(&server, &reason, true);
            } else {
                // Looking may take time, and clients may wait since.
                self.put(server);
            }
        }
        if !self.paused.get() {
            self.open(settings.min_size.saturating_sub(self.total.get()));
        }
    }

    /// Closes all that is idle.
    pub(crate) fn close_idle(self: &Rc<Pool>, reason: &str) {
        let servers = std::mem::take(&mut *self.idle.borrow_mut());
        servers.iter().for_each(|server| self.close(server, reason, false));
    }

    fn take_idle(self: &Rc<Pool>) -> Option<Rc<Server>> {
        loop {
            // The one that was used last: the others may become old enough to be closed.
            let server = self.idle.borrow_mut().pop()?;
            if !server.wire.has_input() {
                return Some(server);
            }
            match self.check(&server) {
                Ok(()) => return Some(server),
                Err(reason) => self.close(&server, &reason, true),
            }
        }
    }

    /// Why a connection that nobody has is to be closed.
    fn check(&self, server: &Server) -> Result<(), String> {
        match self.is_unwanted(server, &self.settings()) {
            Some(reason) => Err(reason.to_owned()),
            None => server.look(),
        }
    }

    fn lend(self: &Rc<Pool>, server: Rc<Server>, client: u64) -> Lease {
        server.client.set(Some(client));
        Lease { pool: self.clone(), server: Some(server) }
    }

    fn take_back(self: &Rc<Pool>, server: Rc<Server>) {
        server.client.set(None);
        server.used.set(machinarium::now());
        let settings = self.settings();
        let (is_free, is_doomed) = {
            let flow = server.flow.borrow();
            (flow.is_free(), server.doomed.borrow().is_some())
        };
        if !is_free || is_doomed {
            return self.give_up(server);
        }
        let waits = server.is_cancelled() && settings.bug != Some(Bug::LateCancel);
        let resets =
            settings.target.database.resets(server.touched.get()) && settings.bug != Some(Bug::NoReset);
        if !waits && !resets {
            return self.put(server);
        }
        let pool = self.clone();
        let settling = server.clone();
        let settle = move || match pool.settle(&settling) {
            Ok(()) => pool.put(settling),
            Err(reason) => pool.close(&settling, &reason, true),
        };
        if let Err(error) = machinarium::try_spawn("settle", settle) {
            self.close(&server, &error.to_string(), true);
        }
    }

    /// Waits until nothing is left of a client.
    fn settle(&self, server: &Server) -> Result<(), String> {
        let settings = self.settings();
        let ask = || {
            server.wait_for_cancels()?;
            match settings.target.database.resets(server.touched.get()) {
                true => server.reset(&settings.target.database.reset_query),
                false => Ok(Ok(())),
            }
        };
        match timeout(settings.cancel, ask) {
            Ok(Ok(())) => server.doomed.borrow().clone().map_or(Ok(()), Err),
            Ok(Err((_, text))) => Err(format!("the reset query has failed: {text}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Closes a connection that something is left of a client in: its transaction ends with it. A query that runs is cancelled.
    fn give_up(self: &Rc<Pool>, server: Rc<Server>) {
        let reason = server.doomed.borrow().clone();
        let is_busy = !server.flow.borrow().is_answered();
        if is_busy && reason.is_none() {
            let settings = self.settings();
            let (target, patience, key) = (settings.target.clone(), settings.cancel, server.key);
            // Without a stack for it, the query runs to its end.
            let _ = machinarium::try_spawn("cancel", move || cancel::send(&target, key, patience));
        }
        self.close(
            &server,
            reason.as_deref().unwrap_or("its client has left in a transaction"),
            reason.is_some(),
        );
    }

    /// Gives a connection that nobody has to whoever waits longest.
    fn put(self: &Rc<Pool>, server: Rc<Server>) {
        let settings = self.settings();
        if let Some(reason) = self.is_unwanted(&server, &settings) {
            return self.close(&server, reason, false);
        }
        let waiter = self.queue.borrow_mut().pop_front();
        match waiter {
            Some((client, sender)) => {
                // Its place is empty: it has waited since it had its last grant.
                let lease = self.lend(server, client);
                drop(sender.try_send(Ok(lease)));
            }
            None => self.idle.borrow_mut().push(server),
        }
    }

    fn is_unwanted(&self, server: &Server, settings: &Settings) -> Option<&'static str> {
        if self.paused.get() {
            return Some("PAUSE");
        }
        if self.total.get() > settings.size || server.generation.get() != self.generation.get() {
            return Some("the configuration has changed");
        }
        let is_old =
            settings.server_lifetime.is_some_and(|limit| machinarium::now() - server.opened >= limit);
        is_old.then_some("old")
    }

    fn close(self: &Rc<Pool>, server: &Server, reason: &str, is_news: bool) {
        if is_news {
            (self.settings().say)(&format!("{self}: server connection {} is closed: {reason}", server.id));
        }
        server.say_goodbye();
        self.total.set(self.total.get() - 1);
        self.open_more();
    }

    /// Opens connections for those who wait, as far as there may be more.
    fn open_more(self: &Rc<Pool>) {
        let waiting = self.queue.borrow().len();
        self.open(waiting.saturating_sub(self.opening.get()));
    }

    fn open(self: &Rc<Pool>, count: usize) {
        let settings = self.settings();
        for _ in 0..count.min(settings.size.saturating_sub(self.total.get())) {
            if self.paused.get() {
                return;
            }
            self.total.set(self.total.get() + 1);
            self.opening.set(self.opening.get() + 1);
            let pool = self.clone();
            if let Err(error) = machinarium::try_spawn("opener", move || pool.open_one()) {
                self.opened(Err(io::Error::other(error.to_string())));
            }
        }
    }

    fn open_one(self: &Rc<Pool>) {
        let settings = self.settings();
        let (id, generation) = (self.stats.next_server(), self.generation.get());
        let connect = || settings.target.connect(id);
        let opened = match settings.connect {
            Some(patience) => timeout(patience, connect),
            None => connect(),
        };
        self.opened(opened.inspect(|server| server.generation.set(generation)));
    }

    fn opened(self: &Rc<Pool>, opened: io::Result<Server>) {
        self.opening.set(self.opening.get() - 1);
        match opened {
            Ok(server) => self.put(Rc::new(server)),
            Err(error) => {
                self.total.set(self.total.get() - 1);
                self.failed(&error);
            }
        }
    }

    /// No connection could be opened. If there is none at all, nobody needs to wait for one.
    fn failed(&self, error: &io::Error) {
        let Target { database, .. } = &self.settings().target;
        let text = format!("cannot connect to {}:{} for {self}: {error}", database.host, database.port);
        if machinarium::cancelled(error).is_none() {
            (self.settings().say)(&text);
        }
        if self.total.get() > 0 {
            return;
        }
        let known = error.get_ref().and_then(|source| source.downcast_ref::<Refused>());
        let code = known.map_or(code::CONNECTION, |refused| code_of(&refused.code));
        self.refuse_all(|| Failure::told(code, text.clone()));
    }

    fn refuse_all(&self, why: impl Fn() -> Failure) {
        for (_, sender) in std::mem::take(&mut *self.queue.borrow_mut()) {
            drop(sender.try_send(Err(why())));
        }
    }

    /// A pool that has become smaller than the number of machines is not on all of them any more; new clients are not sent to those.
    fn nothing_here(&self) -> Failure {
        Failure::told(
            code::NOT_NOW,
            format!("{self} has become smaller, and this machine has none of it: connect again"),
        )
    }
}

/// The codes of servers that say what a client may do about it.
fn code_of(code: &str) -> &'static str {
    match code {
        code::NO_DATABASE => code::NO_DATABASE,
        code::TOO_MANY => code::TOO_MANY,
        code::NOT_NOW => code::NOT_NOW,
        _ => code::CONNECTION,
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.database, self.user)
    }
}

/// A place in the queue, left when it is dropped.
struct Place<'a> {
    pool: &'a Rc<Pool>,
    client: u64,
    seat: &'a Seat,
    left: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        self.pool.queue.borrow_mut().retain(|(client, _)| *client != self.client);
        // What was granted at the last moment goes back.
        let late = self.seat.receiver.try_recv();
        if self.pool.settings().bug == Some(Bug::LostWaiter)
            && let Ok(Ok(mut lease)) = late
        {
            return self.pool.idle.borrow_mut().extend(lease.server.take());
        }
        drop(late);
    }
}
