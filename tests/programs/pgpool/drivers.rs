//! What people use: psql, pgbench in its three ways, psycopg2, JDBC.

use std::process::{Command, Stdio};

use super::{Cluster, File, Pooler, said};

/// A cluster's database `bench`, with pgbench's tables.
fn bench(cluster: &Cluster) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let pooler = Pooler::start(cluster, "", "");
        assert_eq!(
            pooler.psql("", &["drop table if exists x"]),
            "NOTICE:  table \"x\" does not exist, skipping"
        );
        let mut init = pooler.command("pgbench", "");
        init.args(["-i", "-q", "-s", "1"]);
        let told = said(init);
        assert!(told.contains("done in"), "{told}");
    });
}

#[test]
fn pgbench_in_its_three_ways() {
    let Some(cluster) = Cluster::shared() else { return };
    bench(cluster);
    for machines in [1, 2] {
        let pooler = Pooler::start(cluster, "pool_size = 4", &format!("machines = {machines}"));
        for way in ["simple", "extended", "prepared"] {
            let mut bench = pooler.command("pgbench", "");
            // A thread for each: pgbench prepares in a call that blocks its thread, which may have all server connections in transactions.
            bench.args(["-n", "-M", way, "-c", "16", "-j", "16", "-t", "30"]);
            let told = said(bench);
            assert!(told.contains("actually processed: 480/480"), "{way}: {told}");
            assert!(told.contains("number of failed transactions: 0 "), "{way}: {told}");
        }
    }
}

#[test]
fn pgbench_with_a_pipeline() {
    let Some(cluster) = Cluster::shared() else { return };
    bench(cluster);
    let lines = "\\set a random(1, 1000)\n\\startpipeline\nbegin;\nselect abalance from pgbench_accounts where aid = :a;\nselect :a;\ncommit;\n\\endpipeline\n";
    let script = File::new("script.sql", lines);
    let pooler = Pooler::start(cluster, "pool_size = 2", "");
    for way in ["extended", "prepared"] {
        let mut bench = pooler.command("pgbench", "");
        bench.args(["-n", "-M", way, "-c", "8", "-t", "50", "-f"]).arg(script.path());
        let told = said(bench);
        assert!(told.contains("actually processed: 400/400"), "{way}: {told}");
    }
}

const PYTHON: &str = r#"
import io, sys, psycopg2, psycopg2.extensions as extensions
connections = [psycopg2.connect(sys.argv[1]) for _ in range(4)]
for number, connection in enumerate(connections):
    with connection, connection.cursor() as cursor:
        cursor.execute("create temp table numbers (i int, t text) on commit drop")
        cursor.copy_from(io.StringIO("".join(f"{i}\tline {i}\n" for i in range(5000))), "numbers")
        cursor.execute("select count(*), sum(i) from numbers where t like %s", ("line%",))
        assert cursor.fetchone() == (5000, 12497500)
        back = io.StringIO()
        cursor.copy_to(back, "numbers")
        assert len(back.getvalue().splitlines()) == 5000
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("select 1 / 0")
        raise SystemExit("1 / 0 is something")
    except psycopg2.errors.DivisionByZero:
        pass
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("create temp table numbers (i int) on commit drop")
            cursor.copy_from(io.StringIO("1\nx\n"), "numbers")
        raise SystemExit("x is a number")
    except psycopg2.errors.InvalidTextRepresentation:
        pass
    assert connection.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE
# A cursor of the server's, in a transaction; and the client's encoding, which stays the client's.
connections[0].set_client_encoding("LATIN1")
with connections[0], connections[0].cursor("rows") as cursor:
    cursor.itersize = 100
    cursor.execute("select i, chr(228) from generate_series(1, 1000) i")
    assert [row[0] for row in cursor] == list(range(1, 1001))
for connection, name in (connections[0], "LATIN1"), (connections[1], "UTF8"):
    with connection, connection.cursor() as cursor:
        cursor.execute("show client_encoding")
        assert cursor.fetchone() == (name,)
print("fine")
"#;

#[test]
fn psycopg2() {
    let Some(cluster) = Cluster::shared() else { return };
    // Debian's, for which the package is.
    let known =
        Command::new("/usr/bin/python3").args(["-c", "import psycopg2"]).stderr(Stdio::null()).status();
    if !known.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no psycopg2 (Debian's package python3-psycopg2)");
        return;
    }
    for mode in ["transaction", "session"] {
        let pooler = Pooler::start(cluster, &format!("pool_size = 4\npool_mode = '{mode}'"), "");
        let target = pooler.command("", "");
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", PYTHON]).args(target.get_args()).env("PGCONNECT_TIMEOUT", "20");
        assert_eq!(said(python), "fine", "{mode}");
    }
}

const JDBC: &str = "/usr/share/java/postgresql.jar";

#[test]
fn jdbc() {
    let Some(cluster) = Cluster::shared() else { return };
    if !Command::new("java").arg("-version").output().is_ok_and(|java| java.status.success())
        || !std::fs::exists(JDBC).unwrap()
    {
        eprintln!(
            "skipped: there is no Java, or no {JDBC} (Debian's packages default-jdk-headless, libpostgresql-jdbc-java)"
        );
        return;
    }
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/pgpool/Jdbc.java");
    let pooler = Pooler::start(cluster, "pool_size = 2", "");
    let mut java = Command::new("java");
    java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", JDBC, program, &pooler.address]);
    assert_eq!(said(java), "fine");
}
