//! What a pooler is told: the same value from a file (`file.rs`) and in a simulated world.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::place::Certificate;
use crate::scram::Verifier;

/// How to serve.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    /// Where Prometheus asks for the metrics.
    pub(crate) metrics: Option<SocketAddr>,
    /// How many machines (threads) share the clients.
    pub(crate) machines: usize,
    /// Clients at once.
    pub(crate) max_clients: usize,
    /// Who may use the console, the database `pgpool`.
    pub(crate) admins: Vec<String>,
    /// TLS towards clients.
    pub(crate) tls: ClientTls,
    pub(crate) timeouts: Timeouts,
    pub(crate) databases: BTreeMap<String, Database>,
    pub(crate) users: BTreeMap<String, User>,
    /// What is told to whoever runs it.
    pub(crate) say: fn(&str),
    pub(crate) bug: Option<Bug>,
}

/// A mistake planted for the hunt to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bug {
    /// A server connection goes to the next client while a cancel request of the last one is on its way.
    LateCancel,
    /// A session pool's connection goes to the next client as the last one has left it.
    NoReset,
    /// What was granted to a client that has just given up goes to nobody.
    LostWaiter,
    /// Statements that begin alike are taken for the same one.
    WrongName,
}

/// How long what may take. `None`: for ever.
#[derive(Clone, Debug)]
pub(crate) struct Timeouts {
    /// A client's login.
    pub(crate) login: Option<Duration>,
    /// A connection to a server, up to its first ReadyForQuery.
    pub(crate) connect: Option<Duration>,
    /// A client's wait for a server connection.
    pub(crate) query_wait: Option<Duration>,
    /// A query, from its last byte to its ReadyForQuery.
    pub(crate) query: Option<Duration>,
    /// A client that asks for nothing, outside of a transaction.
    pub(crate) client_idle: Option<Duration>,
    /// The same inside of a transaction.
    pub(crate) idle_in_transaction: Option<Duration>,
    /// A server connection that nobody uses.
    pub(crate) server_idle: Option<Duration>,
    /// Any server connection: it is closed when its client has done.
    pub(crate) server_lifetime: Option<Duration>,
    /// A connection on which nothing moves, to a client or a server, before the other side is asked whether it is still there. One that does not
    /// answer for as long again has gone.
    pub(crate) keepalive: Option<Duration>,
    /// A cancel request on its way, and other small things that servers are asked. Never for ever: meanwhile nobody has the connection.
    pub(crate) cancel: Duration,
    /// How long clients may go on when the pooler ends.
    pub(crate) drain: Duration,
}

/// A database as clients name it, and the server that has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Database {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Its name there.
    pub(crate) name: String,
    /// Whoever the client is, there it is this one.
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) mode: PoolMode,
    /// Connections of each user, over all machines.
    pub(crate) size: usize,
    /// How many of them are kept even if nobody uses them.
    pub(crate) min_size: usize,
    /// Clients that wait for one, on each machine.
    pub(crate) max_waiting: usize,
    /// What is asked of a server between two clients, to undo what the first has left. Empty: nothing.
    pub(crate) reset_query: String,
    /// Whether that is done after each transaction of a transaction pool, not only where something may be left.
    pub(crate) reset_always: bool,
    pub(crate) tls: ServerTls,
}

/// Who gets a server connection for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PoolMode {
    Session,
    Transaction,
}

/// A user as the pooler knows it.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) auth: Auth,
    /// With which the pooler logs in at servers in the user's name.
    pub(crate) password: Option<String>,
}

/// How a user shows who it is.
#[derive(Clone, Debug)]
pub(crate) enum Auth {
    Trust,
    Scram(Verifier),
}

/// Whether a connection has TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TlsMode {
    /// Never.
    Disable,
    /// If the other side wants it.
    Allow,
    /// Always; a server's certificate is not looked at.
    Require,
    /// Always, and the certificate leads to a root that is trusted. Servers only.
    VerifyCa,
    /// The same, and it is for the host's name.
    VerifyFull,
}

/// TLS towards clients.
#[derive(Clone, Debug)]
pub(crate) struct ClientTls {
    pub(crate) mode: TlsMode,
    pub(crate) certificate: Option<Certificate>,
}

/// TLS towards a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ServerTls {
    pub(crate) mode: TlsMode,
    pub(crate) roots: Roots,
    /// The name in its certificate, if it is not the host.
    pub(crate) name: Option<String>,
}

/// Whose signature a server's certificate needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Roots {
    System,
    File(PathBuf),
    /// That of a root in this text.
    Pem(String),
}

impl Config {
    /// A share of `count` things for one of the machines: all shares together are `count`.
    pub(crate) fn share(&self, count: usize, machine: usize) -> usize {
        count / self.machines + usize::from(machine < count % self.machines)
    }
}

impl Database {
    /// Whether a server connection that a client has had is to be reset. `touched`: something may be left there.
    pub(crate) fn resets(&self, touched: bool) -> bool {
        let may_be_left = touched || self.reset_always || self.mode == PoolMode::Session;
        may_be_left && !self.reset_query.is_empty()
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let some = |seconds| Some(Duration::from_secs(seconds));
        Timeouts {
            login: some(15),
            connect: some(15),
            query_wait: some(120),
            query: None,
            client_idle: None,
            idle_in_transaction: None,
            server_idle: some(600),
            server_lifetime: some(3600),
            keepalive: some(60),
            cancel: Duration::from_secs(10),
            drain: Duration::from_secs(30),
        }
    }
}
