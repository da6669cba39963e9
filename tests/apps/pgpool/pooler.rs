//! One machine's part of the pooler: its pools, its clients, and what it does for the others.
//!
//! A client belongs to one machine from its login to its end, and so does a server connection: between two requests nothing is sent from
//! machine to machine. Which machine is decided at the login (`homes.rs`). A client's key says its machine, so that a cancel request, which
//! may come in anywhere, finds it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use machinarium::machine::Remote;
use machinarium::tls::ServerConfig;

use crate::cancel;
use crate::client::Client;
use crate::common::service::{Clients, End};
use crate::config::{Config, TlsMode};
use crate::connect::Target;
use crate::failure::{Failure, code};
use crate::homes::Homes;
use crate::pool::{Pool, Settings};
use crate::statements::Catalogue;

machinarium::machine_local! {
    static HERE: RefCell<Option<Rc<Pooler>>> = RefCell::new(None);
}

/// How many of the bits of a client's number in its key are not its machine.
const CLIENT_BITS: u32 = 22;

/// How often pools are tended.
const TICK: Duration = Duration::from_millis(500);

/// See the head of the file.
pub(crate) struct Pooler {
    index: usize,
    pub(crate) common: Arc<Common>,
    config: RefCell<Arc<Config>>,
    /// TLS towards clients.
    tls: RefCell<Option<ServerConfig>>,
    pools: RefCell<BTreeMap<(String, String), Rc<Pool>>>,
    /// The databases whose pools give nobody a connection, those too that are yet to be made.
    paused: RefCell<BTreeSet<String>>,
    clients: RefCell<BTreeMap<u64, Rc<Client>>>,
    pub(crate) catalogue: Catalogue,
    last_client: Cell<u64>,
    is_ending: Cell<bool>,
}

/// What all machines share.
pub(crate) struct Common {
    pub(crate) end: End,
    pub(crate) places: Clients,
    pub(crate) homes: Homes,
    pub(crate) machines: Vec<Remote>,
    /// Reads the configuration again.
    pub(crate) reload: Box<dyn Fn() -> Result<Config, String> + Send + Sync>,
}

impl Pooler {
    /// Makes the calling machine the one with this index.
    ///
    /// # Errors
    /// Of the TLS in the configuration.
    pub(crate) fn install(index: usize, common: Arc<Common>, config: Arc<Config>) -> io::Result<()> {
        let tls = RefCell::new(server_config(&config)?);
        let catalogue = Catalogue::new(config.bug);
        let pooler = Rc::new(Pooler {
            index,
            common,
            config: RefCell::new(config),
            tls,
            pools: RefCell::default(),
            paused: RefCell::default(),
            clients: RefCell::default(),
            catalogue,
            last_client: Cell::new(0),
            is_ending: Cell::new(false),
        });
        HERE.with(|here| *here.borrow_mut() = Some(pooler.clone()));
        machinarium::spawn_named("tender", move || pooler.tend());
        Ok(())
    }

    /// The calling machine's.
    pub(crate) fn here() -> Rc<Pooler> {
        HERE.with(|here| here.borrow().clone()).expect("nobody comes before the pooler is installed")
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    pub(crate) fn tls(&self) -> Option<ServerConfig> {
        self.tls.borrow().clone()
    }

    pub(crate) fn say(&self, news: &str) {
        (self.config.borrow().say)(news);
    }

    /// The pool for a client, which is made if it is not there.
    pub(crate) fn pool(&self, database: &str, user: &str) -> Result<Rc<Pool>, Failure> {
        let key = (database.to_owned(), user.to_owned());
        if let Some(pool) = self.pools.borrow().get(&key) {
            return Ok(pool.clone());
        }
        let settings = self.settings(&self.config(), database, user)?;
        let settings = settings.ok_or_else(|| no_database(database))?;
        let pool = Pool::new(database, user, settings);
        if self.paused.borrow().contains(database) {
            pool.pause();
        }
        self.pools.borrow_mut().insert(key, pool.clone());
        Ok(pool)
    }

    pub(crate) fn pools(&self) -> Vec<Rc<Pool>> {
        self.pools.borrow().values().cloned().collect()
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Has the pools of a database, or all, give nobody a connection.
    pub(crate) fn pause(&self, database: Option<&str>) {
        self.paused.borrow_mut().extend(self.databases(database));
        self.pools_of(database).iter().for_each(Pool::pause);
    }

    pub(crate) fn resume(&self, database: Option<&str>) {
        let names = self.databases(database);
        self.paused.borrow_mut().retain(|paused| !names.contains(paused));
        self.pools_of(database).iter().for_each(Pool::resume);
    }

    /// How many connections those pools have that are paused. `None`: none is.
    pub(crate) fn connections(&self, database: Option<&str>) -> Option<usize> {
        let pools = self.pools_of(database);
        pools.iter().filter(|pool| pool.is_paused()).map(|pool| pool.total()).reduce(|all, one| all + one)
    }

    /// This one, or all.
    fn databases(&self, one: Option<&str>) -> Vec<String> {
        match one {
            Some(one) => vec![one.to_owned()],
            None => self.config().databases.keys().cloned().collect(),
        }
    }

    fn pools_of(&self, database: Option<&str>) -> Vec<Rc<Pool>> {
        let mut pools = self.pools();
        pools.retain(|pool| database.is_none_or(|database| pool.database == database));
        pools
    }

    pub(crate) fn clients(&self) -> Vec<Rc<Client>> {
        self.clients.borrow().values().cloned().collect()
    }

    /// The number of a new client, and its number in its key.
    pub(crate) fn next_client(&self) -> (u64, u32) {
        let id = self.last_client.get() + 1;
        self.last_client.set(id);
        let within = (id as u32) & ((1 << CLIENT_BITS) - 1);
        (id, (self.index as u32) << CLIENT_BITS | within)
    }

    pub(crate) fn enter(&self, client: &Rc<Client>) {
        self.clients.borrow_mut().insert(client.id, client.clone());
    }

    pub(crate) fn leave(&self, client: &Client) {
        self.clients.borrow_mut().remove(&client.id);
    }

    /// Does what a cancel request asks for, if its key is that of a client: on that client's machine.
    pub(crate) fn cancel(&self, key: (u32, u32)) {
        let home = (key.0 >> CLIENT_BITS) as usize;
        if home == self.index {
            return self.cancel_here(key);
        }
        if let Some(remote) = self.common.machines.get(home) {
            // Whoever sent it hears nothing of it, whatever becomes of it.
            if let Ok(done) = remote.spawn(move || Pooler::here().cancel_here(key)) {
                let _ = done.join();
            }
        }
    }

    fn cancel_here(&self, key: (u32, u32)) {
        let client = self.clients.borrow().values().find(|client| client.key == key).cloned();
        let Some(client) = client else { return };
        let Ok(pool) = self.pool(&client.database, &client.user) else { return };
        match client.held() {
            Some(server) => cancel::forward(&pool, &server),
            None => {
                client.cancelled.set(true);
                pool.cancel(client.id);
            }
        }
    }

    /// Takes another configuration. What cannot change while it runs stays.
    ///
    /// # Errors
    /// Of its TLS; nothing has changed then.
    pub(crate) fn reload(&self, config: &Arc<Config>) -> io::Result<()> {
        let tls = server_config(config)?;
        let pools = self.pools();
        let settings = pools.iter().map(|pool| self.settings(config, &pool.database, &pool.user));
        let settings = settings.collect::<io::Result<Vec<_>>>()?;
        *self.tls.borrow_mut() = tls;
        *self.config.borrow_mut() = config.clone();
        for (pool, settings) in pools.iter().zip(settings) {
            match settings {
                Some(settings) => pool.set(settings),
                None => self.remove(pool),
            }
        }
        Ok(())
    }

    /// The database is gone from the configuration: so are those who use it.
    fn remove(&self, pool: &Rc<Pool>) {
        self.pools.borrow_mut().remove(&(pool.database.clone(), pool.user.clone()));
        for client in self.clients().iter().filter(|client| client.database == pool.database) {
            client.kill("the database is no longer in the configuration of the pooler");
        }
        pool.pause();
    }

    /// The end has begun: those who ask for nothing are sent away, and the others when they have done.
    pub(crate) fn begin_end(&self) {
        self.is_ending.set(true);
        let idle = |client: &&Rc<Client>| client.is_idle();
        self.clients().iter().filter(idle).for_each(|client| client.kill(&self.farewell().to_string()));
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.get()
    }

    /// What clients are told when the pooler ends.
    pub(crate) fn farewell(&self) -> Failure {
        Failure::told(code::SHUTDOWN, "the pooler is shutting down")
    }

    fn settings(&self, config: &Config, database: &str, user: &str) -> io::Result<Option<Settings>> {
        let Some(found) = config.databases.get(database) else { return Ok(None) };
        let password = config.users.get(user).and_then(|user| user.password.as_deref());
        let timeouts = &config.timeouts;
        Ok(Some(Settings {
            target: Target::new(found, user, password, timeouts.keepalive)?,
            size: config.share(found.size, self.index),
            min_size: config.share(found.min_size, self.index),
            connect: timeouts.connect,
            query_wait: timeouts.query_wait,
            server_idle: timeouts.server_idle,
            server_lifetime: timeouts.server_lifetime,
            cancel: timeouts.cancel,
            say: config.say,
            bug: config.bug,
        }))
    }

    fn tend(&self) {
        while machinarium::sleep(TICK).is_ok() {
            self.pools().iter().for_each(Pool::tend);
        }
    }
}

pub(crate) fn no_database(name: &str) -> Failure {
    Failure::told(code::NO_DATABASE, format!("database {name:?} is not in the configuration of the pooler"))
}

fn server_config(config: &Config) -> io::Result<Option<ServerConfig>> {
    match (&config.tls.certificate, config.tls.mode) {
        (_, TlsMode::Disable) | (None, _) => Ok(None),
        (Some(certificate), _) => Ok(Some(certificate.config()?)),
    }
}
