//! A PostgreSQL cluster of the tests' own, in a temporary directory, on loopback: made, started, stopped and removed by a shell that runs as long
//! as its input is open. So the cluster ends with the process of the tests, however that ends.
//!
//! | user | shows who it is by |
//! |---|---|
//! | `postgres`, a superuser, and `trusted` | nothing |
//! | `ada` | the password `secret`, by SCRAM-SHA-256 |
//! | `guarded` | the same, and only with TLS |
//!
//! All databases are `shop` and what a test makes.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::identity::IDENTITY;

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// See the head of the file. Its arguments are the directory and the port; it says `ready`, or why not.
const KEEPER: &str = r#"
set -e
directory=$1 port=$2 data=$1/data
end() {
    pg_ctl -D "$data" stop -m immediate >/dev/null 2>&1 || true
    rm -rf "$directory"
}
trap end EXIT
trap '' INT HUP
umask 022
mkdir "$directory"
initdb -D "$data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$directory/initdb.log" 2>&1 ||
    { cat "$directory/initdb.log"; exit 1; }
(umask 077 && printf %s "$KEY" >"$data/server.key" && printf %s "$CERTIFICATE" >"$data/server.crt")
cat >>"$data/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$directory'
ssl = on
fsync = off
max_connections = 60
shared_buffers = 16MB
password_encryption = 'scram-sha-256'
END
cat >"$data/pg_hba.conf" <<END
local   all postgres,trusted            trust
local   all all                         scram-sha-256
hostssl all guarded      127.0.0.1/32   scram-sha-256
host    all guarded      127.0.0.1/32   reject
host    all postgres,trusted 127.0.0.1/32 trust
host    all all          127.0.0.1/32   scram-sha-256
END
pg_ctl -D "$data" -l "$directory/log" -w start >"$directory/start.log" 2>&1 || { cat "$directory/log"; exit 1; }
psql -X -q -v ON_ERROR_STOP=1 -h "$directory" -p "$port" -U postgres postgres <<END
create user trusted;
create user ada password 'secret';
create user guarded password 'secret';
create database shop;
grant pg_signal_backend to trusted;
\c shop
grant all on schema public to public;
END
echo ready
while read -r order; do
    pg_ctl -D "$data" -l "$directory/log" -w $order >/dev/null 2>&1 && echo done || echo failed
done
"#;

/// See the head of the file.
pub(crate) struct Cluster {
    pub(crate) port: u16,
    keeper: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Cluster {
    /// The one that most tests share. `None`, which is said: it cannot be had here.
    pub(crate) fn shared() -> Option<&'static Cluster> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        SHARED.get_or_init(Cluster::start).as_ref()
    }

    /// Another one.
    pub(crate) fn start() -> Option<Cluster> {
        if !PathBuf::from(PROGRAMS).join("initdb").exists() {
            eprintln!("skipped: there is no PostgreSQL 15 in {PROGRAMS} (Debian's package postgresql)");
            return None;
        }
        // Somebody else may take the port meanwhile.
        let tries = (0..3).map(|_| Cluster::try_start()).collect::<Vec<_>>();
        let mut whys = Vec::new();
        for one in tries {
            match one {
                Ok(cluster) => return Some(cluster),
                Err(why) => whys.push(why),
            }
        }
        panic!("no cluster starts: {whys:?}");
    }

    fn try_start() -> Result<Cluster, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let name = format!("machinarium-pg-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let directory = std::env::temp_dir().join(name);
        let pair = &*IDENTITY;
        let mut command = as_postgres();
        command.args(["sh", "-c", KEEPER, "keeper"]).arg(&directory).arg(port.to_string());
        command.env("PATH", format!("{PROGRAMS}:/usr/bin:/bin"));
        command.env("KEY", &pair.key).env("CERTIFICATE", &pair.certificate).current_dir("/");
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut answers = BufReader::new(keeper.stdout.take().unwrap());
        let mut said = String::new();
        while answers.read_line(&mut said).unwrap() > 0 {
            if said.ends_with("ready\n") {
                return Ok(Cluster { port, keeper, answers });
            }
        }
        let _ = keeper.wait();
        Err(said)
    }

    /// Has pg_ctl do something: `stop -m fast`, `start`.
    pub(crate) fn control(&mut self, order: &str) {
        writeln!(self.keeper.stdin.as_mut().unwrap(), "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "pg_ctl {order}");
    }
}

/// PostgreSQL does not run as root.
fn as_postgres() -> Command {
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout != b"0\n" {
        return Command::new("env");
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]);
    command
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
