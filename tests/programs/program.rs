//! A program that runs until its test has ended.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A running example program. Killed at the end.
pub(crate) struct Program {
    child: Child,
    out: BufReader<ChildStdout>,
    errors: BufReader<ChildStderr>,
}

/// The binary of an example.
pub(crate) fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not there: cargo build --examples", path.display());
    path
}

/// Runs a program to its end.
pub(crate) fn output(name: &str, arguments: &[&str]) -> Output {
    Command::new(path(name)).args(arguments).stdin(Stdio::null()).output().unwrap()
}

impl Program {
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Program {
        let mut command = Command::new(path(name));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let errors = BufReader::new(child.stderr.take().unwrap());
        Program { child, out, errors }
    }

    /// The rest of the next line that begins so.
    pub(crate) fn line(&mut self, prefix: &str) -> String {
        rest_of_line(&mut self.out, prefix)
    }

    /// The same of what it says on its error output.
    pub(crate) fn news(&mut self, prefix: &str) -> String {
        rest_of_line(&mut self.errors, prefix)
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end: its exit status.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

fn rest_of_line(out: &mut impl BufRead, prefix: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(out.read_line(&mut line).unwrap() > 0, "it ended before it said {prefix:?}");
        if let Some(rest) = line.strip_prefix(prefix) {
            return rest.trim_end().to_owned();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until nobody listens there: a program closes its listeners about when it says that it ends.
pub(crate) fn await_refusal(address: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address)
        .map_or_else(|error| error.kind() != ErrorKind::ConnectionRefused, |_| true)
    {
        assert!(Instant::now() < end, "{address} is still listened to");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The exit status of a hunt, and what it printed.
pub(crate) fn hunt(name: &str, arguments: &[&str]) -> (i32, String) {
    let output = output(name, &[&["hunt"], arguments].concat());
    (
        output.status.code().expect("no signal ends a hunt"),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}
