//! The queue, and the limits of time: whom each ends, and that it says which one it was.

use super::client::{Client, message};
use super::{Cluster, Pooler};

const SHOP: &str = "shop/trusted";

/// A pooler with a pool of one connection and this limit of time.
fn limited(cluster: &Cluster, name: &str) -> Pooler {
    Pooler::start(cluster, "pool_size = 1", &format!("[timeouts]\n{name} = '300ms'"))
}

#[test]
fn who_waits_for_a_server_connection() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "pool_size = 1\nmax_waiting = 1", "[timeouts]\nquery_wait = '500ms'");
    let [mut holder, mut waiter, mut other] = [pooler.client(), pooler.client(), pooler.client()];
    holder.ask("begin");
    waiter.send_query("select 1");
    pooler.until_console("SHOW POOLS", "shop|trusted|0|1|1|1|0|0|1|transaction|false");
    let full =
        format!("FATAL 53300: 1 clients wait already for a connection to {SHOP} (max_waiting)\nthe end");
    assert_eq!(other.ask("select 1"), full);
    let late = format!("FATAL 57014: no connection to {SHOP} was free for 500ms (query_wait)\nthe end");
    assert_eq!(waiter.answer(), late);
    holder.ask("commit");
    assert_eq!(holder.ask("select 1"), "1");
}

#[test]
fn limits_of_time() {
    let Some(cluster) = Cluster::shared() else { return };
    let ended =
        |code: &str, name: &str| format!("FATAL {code}: nothing has come for 300ms ({name})\nthe end");
    let pooler = limited(cluster, "client_idle");
    assert_eq!(pooler.client().answer(), ended("57P05", "client_idle"));
    let pooler = limited(cluster, "idle_in_transaction");
    let mut client = pooler.client();
    client.ask("begin");
    assert_eq!(client.answer(), ended("25P03", "idle_in_transaction"));
    let pooler = limited(cluster, "query");
    assert_eq!(pooler.client().ask("select pg_sleep(60)"), ended("57014", "query"));
    // The place of each is another one's at once.
    assert_eq!(pooler.client().ask("select 1"), "1");
    let pooler = limited(cluster, "login");
    let mut client = Client::open(&pooler.address);
    let told = client.answer();
    assert!(told.starts_with("FATAL 08006: ") && told.contains("(login)"), "{told}");
}

#[test]
fn a_client_that_takes_nothing() {
    let Some(cluster) = Cluster::shared() else { return };
    let mut pooler = limited(cluster, "client_write");
    let mut deaf = pooler.client();
    deaf.send_query("select repeat('x', 1000) from generate_series(1, 50000)");
    let told = pooler.program.news("pgpool: 127.0.0.1:");
    assert!(
        told.ends_with("(shop/trusted): the client has taken nothing for 300ms (client_write)"),
        "{told}"
    );
    assert_eq!(pooler.client().ask("select 1"), "1");
}

#[test]
fn clients_at_once() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "", "max_clients = 2");
    let kept = [pooler.client(), pooler.client()];
    let told = Client::log_in(&pooler.address, "trusted", "shop", &[]).err().unwrap();
    assert_eq!(told, "FATAL 53300: there are 2 clients already (max_clients)");
    drop(kept);
    pooler.until_welcome();
}

#[test]
fn what_is_no_protocol_is_refused() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "pool_size = 1", "");
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 1, 0, 0, 0, 0], &[0, 0, 0, 9, 0, 3, 0, 0, 1]] {
        let mut client = Client::open(&pooler.address);
        client.send_raw(bytes);
        assert!(client.answer().starts_with("FATAL 08P01: "));
    }
    let wrong =
        [message(b'?', b"what"), message(b'B', &[b'x'; 100]), message(b'D', b"S"), vec![b'Q', 0, 0, 0, 1]];
    for bytes in wrong {
        let mut client = pooler.client();
        client.send_raw(&bytes);
        let told = client.answer();
        assert!(told.starts_with("FATAL 08P01: "), "{told}");
    }
    assert_eq!(pooler.client().ask("select 1"), "1");
}
