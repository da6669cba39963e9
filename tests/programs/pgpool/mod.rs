//! pgpool before a real PostgreSQL: what psql, pgbench and drivers see of it, and plain sockets where those do not go far enough.

mod cancel;
mod client;
mod cluster;
mod console;
mod drivers;
mod failures;
mod identity;
mod logins;
mod pooling;
mod statements;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::program::Program;
use client::Client;
use cluster::Cluster;

/// A pooler before a cluster. Its configuration goes with it.
struct Pooler {
    program: Program,
    address: String,
    config: File,
}

/// A file of a test, removed at its end.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("machinarium-pgpool-{}-{}-{name}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let file = File(std::env::temp_dir().join(name));
        std::fs::write(&file.0, text).unwrap();
        file
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Who may come in; the pooler knows their passwords.
const USERS: &str = "
[users.trusted]
auth = 'trust'
[users.ada]
password = 'secret'
";

const LISTEN: &str = "listen = '127.0.0.1:0'\n";

impl Pooler {
    /// Before `cluster`: the database `shop`, with `database` of its keys, and `rest` of the file besides.
    fn start(cluster: &Cluster, database: &str, rest: &str) -> Pooler {
        let port = cluster.port;
        Pooler::with(&format!("{rest}\n[databases.shop]\nport = {port}\n{database}\n{USERS}"))
    }

    /// With this configuration, but for where it listens.
    fn with(config: &str) -> Pooler {
        let config = File::new("config.toml", &format!("{LISTEN}{config}"));
        let mut program = Program::start("pgpool", &[config.path()]);
        let address = program.line("pgpool: listening on ");
        Pooler { program, address, config }
    }

    /// Waits for its end: its exit status.
    fn ended(self) -> Option<i32> {
        self.program.ended()
    }

    fn client(&self) -> Client {
        Client::connect(&self.address)
    }

    /// Waits until a query says this.
    fn until(&self, sql: &str, answer: &str) {
        let (end, mut client) = (Instant::now() + Duration::from_secs(20), self.client());
        loop {
            let said = client.ask(sql);
            if said == answer {
                return;
            }
            assert!(Instant::now() < end, "{sql}: {said}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until clients are let in.
    fn until_welcome(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while let Err(told) = Client::log_in(&self.address, "trusted", "shop", &[]) {
            assert!(Instant::now() < end, "{told}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What psql prints of these commands, one transaction each: its output, then its errors.
    fn psql(&self, target: &str, commands: &[&str]) -> String {
        let mut psql = self.command("psql", target);
        psql.args(["-X", "-q", "-A", "-t"]);
        for command in commands {
            psql.args(["-c", command]);
        }
        said(psql)
    }

    /// A client program that is told where to connect, and as whom: as `trusted`, unless `target` says otherwise.
    fn command(&self, program: &str, target: &str) -> Command {
        let (host, port) = self.address.rsplit_once(':').unwrap();
        let mut command = Command::new(program);
        command.arg(format!("host={host} port={port} dbname=shop user=trusted {target}"));
        command.stdin(Stdio::null()).env("PGCONNECT_TIMEOUT", "20").env("LC_ALL", "C");
        command
    }
}

/// What a command prints, and then its errors.
fn said(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).trim_end().to_owned()
}
