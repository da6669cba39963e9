//! The tables of the console, each gathered from all machines.

use crate::client::State;
use crate::pool::Pool;
use crate::pooler::Pooler;
use crate::reload::on_all;
use crate::table::Table;

type Rows = Vec<Vec<String>>;

const POOLS: &[&str] = &[
    "database",
    "user",
    "machine",
    "clients_active",
    "clients_waiting",
    "servers_active",
    "servers_idle",
    "servers_opening",
    "pool_size",
    "pool_mode",
    "paused",
];
const CLIENTS: &[&str] =
    &["id", "database", "user", "state", "address", "tls", "machine", "connected_s", "server"];
const SERVERS: &[&str] =
    &["id", "database", "user", "state", "machine", "connected_s", "pid", "tls", "prepared", "client"];
const STATS: &[&str] = &[
    "database",
    "user",
    "machine",
    "transactions",
    "queries",
    "bytes_received",
    "bytes_sent",
    "waits",
    "wait_us",
    "longest_wait_us",
    "servers_opened",
];
const DATABASES: &[&str] =
    &["name", "host", "port", "database", "force_user", "pool_mode", "pool_size", "min_pool_size", "tls"];

/// The table of this name, if there is one.
pub(crate) fn table(pooler: &Pooler, name: &str) -> Option<Table> {
    let gather = |rows: fn(&Pooler) -> Rows| on_all(&pooler.common.machines, rows).concat();
    let (columns, rows): (&[&str], Rows) = match name {
        "POOLS" => (POOLS, gather(pools)),
        "CLIENTS" => (CLIENTS, gather(clients)),
        "SERVERS" => (SERVERS, gather(servers)),
        "STATS" => (STATS, gather(stats)),
        "DATABASES" => (DATABASES, databases(pooler)),
        "CONFIG" => (&["key", "value"], config(pooler)),
        "VERSION" => (&["version"], vec![vec![format!("pgpool {}", env!("CARGO_PKG_VERSION"))]]),
        _ => return None,
    };
    Some(Table::new(columns, rows))
}

fn pools(pooler: &Pooler) -> Rows {
    let row = |pool: &std::rc::Rc<Pool>| {
        let settings = pool.settings();
        let active = pool.total() - pool.idle() - pool.opening();
        let clients = pooler.clients();
        let clients =
            clients.iter().filter(|client| client.state.get() == State::Active && client.is_of(pool));
        vec![
            pool.database.clone(),
            pool.user.clone(),
            pooler.index().to_string(),
            clients.count().to_string(),
            pool.waiting().to_string(),
            active.to_string(),
            pool.idle().to_string(),
            pool.opening().to_string(),
            settings.size.to_string(),
            format!("{:?}", settings.target.database.mode).to_lowercase(),
            pool.is_paused().to_string(),
        ]
    };
    pooler.pools().iter().map(row).collect()
}

fn clients(pooler: &Pooler) -> Rows {
    let row = |client: &std::rc::Rc<crate::client::Client>| {
        vec![
            client.key.0.to_string(),
            client.database.clone(),
            client.user.clone(),
            format!("{:?}", client.state.get()).to_lowercase(),
            client.peer.to_string(),
            client.is_tls.to_string(),
            pooler.index().to_string(),
            (machinarium::now() - client.since).as_secs().to_string(),
            client.held().map_or(String::new(), |server| server.id.to_string()),
        ]
    };
    pooler.clients().iter().map(row).collect()
}

fn servers(pooler: &Pooler) -> Rows {
    let mut rows = Rows::new();
    let clients = pooler.clients();
    for pool in pooler.pools() {
        let active = clients.iter().filter(|client| client.is_of(&pool));
        let active = active.filter_map(|client| Some((client.held()?, "active", client.key.0.to_string())));
        let idle = pool.idle_servers().into_iter().map(|server| (server, "idle", String::new()));
        for (server, state, client) in active.chain(idle) {
            rows.push(vec![
                server.id.to_string(),
                pool.database.clone(),
                pool.user.clone(),
                state.to_owned(),
                pooler.index().to_string(),
                (machinarium::now() - server.opened).as_secs().to_string(),
                server.key.0.to_string(),
                server.wire.is_tls().to_string(),
                server.prepared.borrow().len().to_string(),
                client,
            ]);
        }
    }
    rows
}

fn stats(pooler: &Pooler) -> Rows {
    let row = |pool: &std::rc::Rc<Pool>| {
        let stats = &pool.stats;
        let counts = [&stats.transactions, &stats.queries, &stats.received, &stats.sent, &stats.waits];
        let mut row = vec![pool.database.clone(), pool.user.clone(), pooler.index().to_string()];
        row.extend(counts.iter().map(|count| count.get().to_string()));
        row.extend([&stats.wait, &stats.longest_wait].map(|time| time.get().as_micros().to_string()));
        row.push(stats.servers.get().to_string());
        row
    };
    pooler.pools().iter().map(row).collect()
}

fn databases(pooler: &Pooler) -> Rows {
    let config = pooler.config();
    let rows = config.databases.iter().map(|(name, database)| {
        vec![
            name.clone(),
            database.host.clone(),
            database.port.to_string(),
            database.name.clone(),
            database.user.clone().unwrap_or_default(),
            format!("{:?}", database.mode).to_lowercase(),
            database.size.to_string(),
            database.min_size.to_string(),
            format!("{:?}", database.tls.mode),
        ]
    });
    rows.collect()
}

fn config(pooler: &Pooler) -> Rows {
    let config = pooler.config();
    let limits = &config.timeouts;
    let text =
        |limit: Option<std::time::Duration>| limit.map_or("off".to_owned(), |limit| format!("{limit:?}"));
    let pairs = [
        ("listen", config.listen.to_string()),
        ("metrics", config.metrics.map_or(String::new(), |address| address.to_string())),
        ("machines", config.machines.to_string()),
        ("max_clients", config.max_clients.to_string()),
        ("admins", config.admins.join(", ")),
        ("tls.mode", format!("{:?}", config.tls.mode)),
        ("timeouts.login", text(limits.login)),
        ("timeouts.connect", text(limits.connect)),
        ("timeouts.query_wait", text(limits.query_wait)),
        ("timeouts.query", text(limits.query)),
        ("timeouts.client_idle", text(limits.client_idle)),
        ("timeouts.idle_in_transaction", text(limits.idle_in_transaction)),
        ("timeouts.server_idle", text(limits.server_idle)),
        ("timeouts.server_lifetime", text(limits.server_lifetime)),
        ("timeouts.keepalive", text(limits.keepalive)),
        ("timeouts.cancel", text(Some(limits.cancel))),
        ("timeouts.drain", text(Some(limits.drain))),
    ];
    pairs.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect()
}
