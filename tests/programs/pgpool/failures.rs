//! What goes wrong: servers that end, clients that vanish, COPY and transactions that fail.

use super::client::{Client, execute, message, parse, sync, texts};
use super::{Cluster, Pooler};

#[test]
fn a_cluster_that_is_started_again() {
    let Some(mut cluster) = Cluster::start() else { return };
    let pooler = Pooler::start(&cluster, "pool_size = 2", "");
    let (mut busy, mut idle) = (pooler.client(), pooler.client());
    assert_eq!(idle.ask("select 1"), "1");
    busy.ask("begin");
    cluster.control("stop -m fast");
    let told = busy.ask("select 1");
    assert!(told.ends_with("\nthe end"), "its transaction is lost: {told}");
    let told = idle.ask("select 1");
    let port = cluster.port;
    let refused =
        format!("FATAL 08006: cannot connect to 127.0.0.1:{port} for shop/trusted: Connection refused");
    assert!(told.starts_with(&refused), "{told}");
    cluster.control("start");
    pooler.until_welcome();
    assert_eq!(pooler.client().ask("select 2"), "2");
}

#[test]
fn a_server_connection_that_is_ended() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "pool_size = 1", "");
    let end = |process: &str| {
        let direct = format!("127.0.0.1:{}", cluster.port);
        assert_eq!(
            Client::connect(&direct).ask(&format!("select pg_terminate_backend({process}, 5000)")),
            "t"
        );
    };
    let mut client = pooler.client();
    // While nobody has it: nobody notices.
    end(&client.ask("select pg_backend_pid()"));
    let process = client.ask("select pg_backend_pid()");
    assert!(process.parse::<u32>().is_ok(), "{process}");
    // While it is a client's: that is told so, in the server's words.
    client.ask("begin");
    end(&process);
    let told = client.ask("select 1");
    assert!(told.starts_with("FATAL 57P01: terminating connection due to administrator command"), "{told}");
    assert_eq!(pooler.client().ask("select 1"), "1");
}

#[test]
fn copies() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "pool_size = 1", "");
    let (mut client, mut other) = (pooler.client(), pooler.client());
    client.ask("drop table if exists copied; create table copied (i int)");
    let lines = |from: u32, to: u32| {
        (from..to).map(|i| message(b'd', format!("{i}\n").as_bytes())).collect::<Vec<_>>().concat()
    };
    // In, by either protocol; libpq sends a Sync behind an extended COPY at once, which the server does not answer.
    client.send_query("copy copied from stdin");
    client.send_raw(&[lines(0, 5000), message(b'c', &[])].concat());
    assert_eq!(client.answer(), "");
    client.send_raw(&[parse("", "copy copied from stdin"), execute("", &[]), sync()].concat());
    client.send_raw(&[lines(5000, 6000), message(b'c', &[]), sync()].concat());
    assert_eq!(client.answer(), "");
    assert_eq!(other.ask("select count(*), sum(i) from copied"), "6000|17997000");
    // Out.
    client.send_query("copy (select i from copied order by i) to stdout");
    let kinds = client.kinds();
    assert_eq!(kinds, "H".to_owned() + &"d".repeat(6000) + "cCZ");
    // Given up by the client, and failed in the middle, when more is on its way.
    client.send_query("copy copied from stdin");
    client.send_raw(&[lines(0, 10), message(b'f', &texts(&["no more"]))].concat());
    assert_eq!(client.answer(), "ERROR 57014: COPY from stdin failed: no more");
    client.send_query("copy copied from stdin");
    client.send_raw(&[message(b'd', b"not a number\n"), lines(0, 5000), message(b'c', &[])].concat());
    assert!(client.answer().starts_with("ERROR 22P02: "));
    // What came behind the error is for nobody, and keeps no server connection.
    assert_eq!(other.ask("select count(*) from copied"), "6000");
    assert_eq!(client.ask("select 1"), "1");
    assert_eq!(client.ask("drop table copied"), "");
}

#[test]
fn clients_that_vanish() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "pool_size = 1", "");
    let mut witness = pooler.client();
    witness.ask("drop table if exists vanished; create table vanished (i int)");
    let vanish: [&dyn Fn(&mut Client); 4] = [
        &|client| drop(client.ask("begin; insert into vanished values (1)")),
        &|client| {
            client.send_query("copy vanished from stdin");
            client.read();
            client.send(b'd', b"1\n");
        },
        &|client| client.send_query("insert into vanished select 1 from pg_sleep(60)"),
        &|client| {
            client.ask("begin; insert into vanished values (1)");
            client.send_raw(&parse("", "select 1")[..9]);
        },
    ];
    for way in vanish {
        let mut client = pooler.client();
        way(&mut client);
        drop(client);
        assert_eq!(witness.ask("select count(*) from vanished"), "0");
    }
    // The query of the third does not run on.
    witness.ask("drop table vanished");
}
