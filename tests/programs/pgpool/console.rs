//! The console, signals, and what is told to whoever runs the pooler.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

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

#[test]
fn the_console_shows_and_does() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "pool_size = 4", "machines = 2");
    let console = |command: &str| pooler.psql("dbname=pgpool", &[command]);
    let mut client = pooler.client();
    assert_eq!(client.ask("begin; select 1"), "1");
    let shown = console("SHOW CLIENTS");
    let row = shown.lines().find(|row| row.contains("|shop|trusted|active|127.0.0.1:")).expect("the client");
    let id = row.split('|').next().unwrap().to_owned();
    assert!(console("show servers").contains("|shop|trusted|active|"), "{shown}");
    assert!(console("SHOW STATS").lines().any(|row| row.starts_with("shop|trusted|")));
    assert!(console("SHOW CONFIG").contains("machines|2\n"));
    assert!(console("SHOW VERSION").starts_with("pgpool "));
    assert!(console("SHOW HELP").contains("PAUSE [DATABASE]"));
    assert_eq!(console("PAUSE nothing"), "ERROR:  there is no database \"nothing\"");
    assert_eq!(console("select 1"), "ERROR:  the console does not know \"select 1\": try SHOW HELP");
    assert_eq!(console(&format!("KILL {id}")), "");
    assert_eq!(client.answer(), "FATAL 57P01: an admin has ended this session\nthe end");
    assert_eq!(console(&format!("KILL {id}")), format!("ERROR:  no client has the id \"{id}\""));
    let told = pooler.psql("dbname=pgpool user=ada password=secret", &["SHOW POOLS"]);
    assert!(told.ends_with("FATAL:  user \"ada\" is not one of the admins"), "{told}");
    assert_eq!(console("SHUTDOWN"), "");
    assert_eq!(pooler.ended(), Some(0));
}

/// PAUSE ends when the last transaction has; meanwhile and until RESUME, clients wait.
#[test]
fn pause_and_resume() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "", "machines = 2");
    let [mut busy, mut waiter] = [pooler.client(), pooler.client()];
    busy.ask("begin");
    let mut pause =
        pooler.command("psql", "dbname=pgpool").args(["-X", "-q", "-c", "PAUSE"]).spawn().unwrap();
    pooler.until_console("SHOW POOLS", "|true");
    waiter.send_query("select 1");
    assert_eq!(busy.ask("select 2; commit"), "2");
    assert!(pause.wait().unwrap().success());
    assert_eq!(pooler.psql("dbname=pgpool", &["SHOW SERVERS"]), "");
    assert_eq!(pooler.psql("dbname=pgpool", &["RESUME"]), "");
    assert_eq!(waiter.answer(), "1");
}

#[test]
fn sigint_does_not_wait() {
    let Some(cluster) = Cluster::shared() else { return };
    for first in ["INT", "TERM"] {
        let mut pooler = Pooler::start(cluster, "", "");
        let mut busy = pooler.client();
        busy.ask("begin");
        pooler.program.signal(first);
        pooler.program.news(&format!("pgpool: SIG{first}: "));
        if first == "TERM" {
            pooler.program.signal("INT");
        }
        assert!(busy.answer().ends_with("the end"));
        assert_eq!(pooler.ended(), Some(0));
    }
}

#[test]
fn prometheus() {
    let Some(cluster) = Cluster::shared() else { return };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let pooler = Pooler::start(cluster, "", &format!("metrics = '127.0.0.1:{port}'"));
    let mut client = pooler.client();
    client.ask("select 1");
    client.ask("begin; select 2");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let labels = "{database=\"shop\",user=\"trusted\",machine=\"0\"}";
    assert!(text.starts_with("HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"), "{text}");
    for line in [
        "pgpool_clients 1".to_owned(),
        format!("pgpool_transactions_total{labels} 1"),
        format!("pgpool_queries_total{labels} 2"),
        format!("pgpool_servers{labels} 1"),
        "# TYPE pgpool_servers_idle gauge".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}
