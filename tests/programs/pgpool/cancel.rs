//! Cancel requests: they reach the query that is meant, wherever it is, and no other.

use std::process::Command;
use std::time::{Duration, Instant};

use super::client::{cancel, execute, parse, sync};
use super::{Cluster, Pooler};

const SLEEP: &str = "select pg_sleep(60)";
const CANCELLED: &str = "ERROR 57014: canceling statement due to user request";

/// Until the cluster runs `count` of these queries of ours.
fn until_running(pooler: &Pooler, query: &str, count: usize) {
    let sql = format!("select count(*) from pg_stat_activity where query = '{query}' and state = 'active'");
    pooler.until(&sql, &count.to_string());
}

#[test]
fn a_query_is_cancelled_where_it_runs() {
    let Some(cluster) = Cluster::shared() else { return };
    for mode in ["transaction", "session"] {
        let pooler = Pooler::start(cluster, &format!("pool_mode = '{mode}'\npool_size = 3"), "machines = 2");
        let (mut sleeper, mut other) = (pooler.client(), pooler.client());
        let (query, others) = (format!("{SLEEP} -- {mode}"), format!("select pg_sleep(1) -- {mode}"));
        sleeper.send_query(&query);
        other.send_query(&others);
        until_running(&pooler, &query, 1);
        sleeper.cancel();
        assert_eq!(sleeper.answer(), CANCELLED);
        assert_eq!(other.answer(), "", "the other one sleeps on");
        assert_eq!(sleeper.ask("select 1"), "1");
        // In a transaction that has failed, too.
        sleeper.ask("begin");
        sleeper.send_query(&query);
        until_running(&pooler, &query, 1);
        sleeper.cancel();
        assert_eq!(sleeper.answer(), CANCELLED);
        assert!(sleeper.ask("select 1").starts_with("ERROR 25P02: "));
        assert_eq!(sleeper.ask("rollback; select 2"), "2");
    }
}

#[test]
fn psql_is_interrupted() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "pool_size = 2", "");
    let query = format!("{SLEEP} -- psql");
    let mut psql = pooler.command("psql", "");
    let psql = psql.args(["-X", "-c", &query]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    until_running(&pooler, &query, 1);
    assert!(Command::new("kill").args(["-INT", &psql.id().to_string()]).status().unwrap().success());
    let output = psql.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("ERROR:  canceling statement due to user request"), "{said}");
}

#[test]
fn a_query_is_cancelled_while_it_waits() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "pool_size = 1", "");
    let (mut holder, mut waiter) = (pooler.client(), pooler.client());
    holder.ask("begin");
    // What a client sends is waited with when the pooler has read it; that it has cannot be seen from here.
    let wait = || std::thread::sleep(Duration::from_millis(100));
    waiter.send_query("select 1");
    wait();
    waiter.cancel();
    assert_eq!(waiter.answer(), CANCELLED);
    // The extended protocol: all up to the Sync is skipped, large or not, and what is behind it is not.
    let large = format!("select '{}'", "x".repeat(100_000));
    let pipeline =
        [parse("", &large), execute("", &[]), sync(), parse("", "select 7"), execute("", &[]), sync()];
    waiter.send_raw(&pipeline.concat());
    wait();
    waiter.cancel();
    assert_eq!(waiter.answer(), CANCELLED);
    holder.ask("commit");
    assert_eq!(waiter.answer(), "7");
    assert_eq!(holder.ask("select 2"), "2");
}

/// A client cancels what it has just been answered, again and again, while another one runs queries on the same server connection.
#[test]
fn a_late_cancel_hits_nobody_else() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "pool_size = 1", "");
    let (mut one, mut other) = (pooler.client(), pooler.client());
    let (address, key) = (pooler.address.clone(), one.key());
    let end = Instant::now() + Duration::from_secs(1);
    let cancels = std::thread::spawn(move || {
        let mut count = 0;
        while Instant::now() < end {
            cancel(&address, key);
            count += 1;
        }
        count
    });
    let mut hits = 0;
    while Instant::now() < end {
        one.send_query("select pg_sleep(0.0005)");
        other.send_query("select count(*) from generate_series(1, 2000)");
        let answer = one.answer();
        // It may come between the row and the end.
        let is_hit = answer.ends_with(CANCELLED);
        hits += usize::from(is_hit);
        assert!(answer.is_empty() || is_hit, "{answer}");
        assert_eq!(other.answer(), "2000", "a cancel of another client");
    }
    assert!(cancels.join().unwrap() > 10 && hits > 0, "{hits} hits");
}

#[test]
fn a_key_that_nobody_has_cancels_nothing() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "", "machines = 2");
    let mut client = pooler.client();
    client.send_query("select pg_sleep(0.3)");
    let mut key = client.key();
    key[7] ^= 1;
    cancel(&pooler.address, key);
    cancel(&pooler.address, [0xff; 8]);
    assert_eq!(client.answer(), "");
}
