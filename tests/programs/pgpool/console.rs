//! The console, signals, and what is told to whoever runs the pooler.

use super::client::Client;
use super::{Cluster, Pooler, USERS};

#[test]
fn sigterm_lets_transactions_end() {
    let Some(cluster) = Cluster::shared() else { return };
    let mut pooler = Pooler::start(cluster, "", "machines = 2");
    let (mut idle, mut busy) = (pooler.client(), pooler.client());
    busy.ask("begin");
    pooler.program.signal("TERM");
    assert_eq!(
        pooler.program.news("pgpool: "),
        "SIGTERM: clients: 2; they have 30s to end their transactions"
    );
    assert_eq!(idle.answer(), "FATAL 57P01: the pooler is shutting down\nthe end");
    assert_eq!(busy.ask("select 1"), "1");
    assert_eq!(busy.ask("commit"), "");
    assert_eq!(busy.answer(), "FATAL 57P01: the pooler is shutting down\nthe end");
    assert_eq!(pooler.ended(), Some(0));
}

#[test]
fn sighup_has_it_read_its_configuration_again() {
    let Some(cluster) = Cluster::shared() else { return };
    let mut pooler = Pooler::start(cluster, "pool_size = 1", "");
    let mut client = pooler.client();
    let mut reload = |text: &str| {
        std::fs::write(&pooler.config.0, text).unwrap();
        pooler.program.signal("HUP");
        pooler.program.news("pgpool: ")
    };
    let port = cluster.port;
    let path = "what was read before stays: ";
    let told = reload("[databases.shop]\nport = 'x'\n");
    assert!(
        told.starts_with(path) && told.contains("config.toml:2: invalid type: string \"x\", expected u16"),
        "{told}"
    );
    assert_eq!(client.ask("select 1"), "1", "nothing has changed");
    let told = reload(&format!(
        "listen = '127.0.0.1:1'\n[databases.shop]\nport = {port}\nname = 'postgres'\n{USERS}"
    ));
    assert_eq!(told, "the configuration was read again; only a restart changes listen");
    assert_eq!(client.ask("select current_database()"), "postgres", "another server connection");
    let told = reload(&format!("[databases.other]\nport = {port}\nname = 'shop'\n{USERS}"));
    assert_eq!(told, "the configuration was read again; only a restart changes listen");
    let gone = "FATAL 57P01: the database is no longer in the configuration of the pooler\nthe end";
    assert_eq!(client.answer(), gone);
    let other = Client::log_in(&pooler.address, "trusted", "other", &[]);
    assert_eq!(other.unwrap().ask("select current_database()"), "shop");
}
