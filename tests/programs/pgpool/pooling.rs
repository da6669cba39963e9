//! Who has which server connection for how long, and what is left of one client when the next comes.

use super::{Cluster, Pooler};

const PROCESS: &str = "select pg_backend_pid()";

#[test]
fn transactions_share_a_server_connection_and_sessions_do_not() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "pool_size = 1", "");
    let (mut one, mut two) = (pooler.client(), pooler.client());
    let process = one.ask(PROCESS);
    assert_eq!(two.ask(PROCESS), process);
    // As long as a transaction goes on, the connection is one client's.
    one.ask("begin");
    two.send_query(PROCESS);
    assert_eq!(one.ask("select 1; select 2"), "1\n2");
    one.ask("commit");
    assert_eq!(two.answer(), process);

    let pooler = Pooler::start(cluster, "pool_mode = 'session'\npool_size = 2", "");
    let (mut one, mut two) = (pooler.client(), pooler.client());
    let process = one.ask(PROCESS);
    assert_ne!(two.ask(PROCESS), process);
    one.ask("create temp table mine (i int)");
    assert_eq!(one.ask("select count(*) from mine"), "0", "a session is the client's");
    drop(one);
    assert_eq!(pooler.client().ask(PROCESS), process);
}

/// What a client leaves behind, how it is seen, and what one sees who finds nothing of it.
const TRACES: [(&str, &str, &str); 9] = [
    ("set search_path = elsewhere", "show search_path", "\"$user\", public"),
    ("select set_config('work_mem', '1MB', false)", "show work_mem", "4MB"),
    ("set role trusted", "select current_user", "postgres"),
    ("create temp table t (i int)", "select count(*) from pg_class where relname = 't'", "0"),
    ("create temp table t as select 1", "select count(*) from pg_class where relname = 't'", "0"),
    ("select pg_advisory_lock(7)", "select count(*) from pg_locks where locktype = 'advisory'", "0"),
    ("prepare p as select 1", "select count(*) from pg_prepared_statements where name = 'p'", "0"),
    ("listen news", "select count(*) from pg_listening_channels()", "0"),
    ("declare c cursor with hold for select 1", "select count(*) from pg_cursors", "0"),
];

#[test]
fn nothing_of_a_client_is_left_for_the_next() {
    let Some(cluster) = Cluster::shared() else { return };
    for mode in ["transaction", "session"] {
        let pooler =
            Pooler::start(cluster, &format!("user = 'postgres'\npool_mode = '{mode}'\npool_size = 1"), "");
        for (trace, look, nothing) in TRACES {
            let mut one = pooler.client();
            let left = one.ask(trace);
            assert!(!left.contains("ERROR"), "{trace}: {left}");
            drop(one);
            assert_eq!(pooler.client().ask(look), nothing, "{mode}: {trace}");
        }
    }
}
