//! Prepared statements on server connections that clients share, and pipelines.

use super::client::{execute, message, parse, sync, texts};
use super::{Cluster, Pooler};

fn describe(name: &str) -> Vec<u8> {
    message(b'D', &[&b"S"[..], &texts(&[name])].concat())
}

fn close(name: &str) -> Vec<u8> {
    message(b'C', &[&b"S"[..], &texts(&[name])].concat())
}

#[test]
fn names_are_each_clients_own() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "pool_size = 1", "");
    let (mut one, mut two) = (pooler.client(), pooler.client());
    one.send_raw(&[parse("s", "select 'one' || $1"), sync()].concat());
    two.send_raw(&[parse("s", "select 'two' || $1"), sync()].concat());
    assert_eq!((one.kinds(), two.kinds()), ("1Z".to_owned(), "1Z".to_owned()));
    for round in ["a", "b"] {
        one.send_raw(&[execute("s", &[round]), sync()].concat());
        two.send_raw(&[execute("s", &[round]), sync()].concat());
        assert_eq!((one.answer(), two.answer()), (format!("one{round}"), format!("two{round}")));
    }
    one.send_raw(&[parse("s", "select 1"), sync()].concat());
    assert_eq!(one.answer().split(':').next(), Some("ERROR 42P05"), "it has one of this name");
    one.send_raw(&[close("s"), parse("s", "select 3"), describe("s"), execute("s", &[]), sync()].concat());
    assert_eq!(one.kinds(), "31tT2DCZ");
    two.send_raw(&[execute("s", &["!"]), execute("t", &[]), sync()].concat());
    assert_eq!(two.answer().split(':').next(), Some("two!\nERROR 26000"));
    // The unnamed one is the client's own as well, from one transaction to the next.
    one.send_raw(&[parse("", "select 4"), sync()].concat());
    two.send_raw(&[parse("", "select 5"), sync()].concat());
    assert_eq!((one.kinds(), two.kinds()), ("1Z".to_owned(), "1Z".to_owned()));
    one.send_raw(&[execute("", &[]), sync()].concat());
    two.send_raw(&[execute("", &[]), sync()].concat());
    assert_eq!((one.answer(), two.answer()), ("4".to_owned(), "5".to_owned()));
}

/// More statements than a server connection keeps, on connections that are reset meanwhile.
#[test]
fn servers_get_statements_when_they_need_them() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "pool_size = 2", "");
    let mut clients = [pooler.client(), pooler.client(), pooler.client()];
    for client in &mut clients {
        let all = (0..250).map(|number| parse(&number.to_string(), &format!("select {number} + $1::int")));
        client.send_raw(&[all.collect::<Vec<_>>().concat(), sync()].concat());
        assert_eq!(client.kinds(), "1".repeat(250) + "Z");
    }
    for round in 0..40 {
        for (place, client) in clients.iter_mut().enumerate() {
            let number = (round * 7 + place * 100) % 250;
            client.send_raw(&[execute(&number.to_string(), &["1"]), sync()].concat());
            assert_eq!(client.answer(), (number + 1).to_string());
        }
        if round % 10 == 0 {
            clients[0].ask("set work_mem = '1MB'");
        }
    }
}

#[test]
fn pipelines() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "pool_size = 1", "");
    let mut client = pooler.client();
    let many = |count: usize| {
        (0..count).map(|number| [parse("", &format!("select {number}")), execute("", &[]), sync()].concat())
    };
    client.send_raw(&many(500).collect::<Vec<_>>().concat());
    for number in 0..500 {
        assert_eq!(client.answer(), number.to_string());
    }
    // One transaction without a Sync in between: an error ends it, and what is behind the Sync is another one.
    let ok = |sql: &str| [parse("", sql), execute("", &[])].concat();
    client.send_raw(
        &[ok("select 1"), ok("select 1 / 0"), ok("select 2"), sync(), ok("select 3"), sync()].concat(),
    );
    assert_eq!(client.answer(), "1\nERROR 22012: division by zero");
    assert_eq!(client.answer(), "3");
    // Queries behind each other without waiting; the pool's one connection is the client's until the last is answered.
    (0..20).for_each(|number| client.send_query(&format!("select {number}")));
    let mut other = pooler.client();
    for number in 0..20 {
        assert_eq!(client.answer(), number.to_string());
    }
    assert_eq!(other.ask("select 1"), "1");
}
