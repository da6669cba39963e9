//! gdb, with the library's script, on a server and on a simulated world. Where there is no gdb, or it may not trace, this says so.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::program::{Program, path};

/// What gdb prints, the library's script loaded after `before`.
fn gdb(before: &[&str], commands: &[&str], rest: &[&str]) -> Option<String> {
    let mut gdb = Command::new("gdb");
    let script = format!("source {}/src/inspect/gdb.py", env!("CARGO_MANIFEST_DIR"));
    gdb.args(["-nx", "-batch"]);
    let script = [script.as_str()];
    for command in before.iter().chain(&script).chain(commands) {
        gdb.args(["-ex", command]);
    }
    gdb.args(rest).stdin(Stdio::null()).env("MACHINARIUM_BREAK_AT", "400");
    let Ok(output) = gdb.output() else {
        eprintln!("skipped: there is no gdb");
        return None;
    };
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    if errors.contains("ptrace: Operation not permitted") {
        eprintln!("skipped: gdb may not trace here");
        return None;
    }
    Some(out + &errors)
}

/// A copy of an example that has symbols and no debug information.
fn without_debug_information(name: &str) -> PathBuf {
    let copy = std::env::temp_dir().join(format!("machinarium-gdb-{name}-{}", std::process::id()));
    let strip = Command::new("strip").args(["-g", "-o"]).arg(&copy).arg(path(name)).status();
    assert!(strip.unwrap().success(), "binutils strip it");
    copy
}

/// Whether a line of a backtrace is the outermost of a coroutine's.
fn is_base(line: &str) -> bool {
    line.contains("coroutine::arch::") && line.contains("::base")
}

struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}

#[test]
fn coroutines_of_a_server_and_where_they_stand() {
    let mut server = Program::start("echo", &["--tcp", "127.0.0.1:0", "--machines", "2"]);
    let address = server.line("echo: tcp on ");
    // What is echoed shows that a coroutine serves it, which then waits for more.
    let mut client = TcpStream::connect(&address).unwrap();
    client.write_all(b"x").unwrap();
    std::io::Read::read_exact(&mut client, &mut [0]).unwrap();
    let process = server.id().to_string();
    let commands =
        ["info coroutines", "coroutine 0.1 bt", "coroutine 0.99 bt", "coroutine 1 bt", "coroutine", "bt 3"];
    let Some(said) = gdb(&[], &commands, &["-p", &process]) else { return };
    let line = |what: &str| said.lines().any(|line| line.contains(what));
    assert!(line("machine 0 'echo-0'") && line("machine 1 'echo-1'"), "{said}");
    assert!(said.lines().any(|line| line.contains("  0.1 ") && line.contains("main")), "{said}");
    assert!(said.lines().any(|line| line.contains("parked, read")), "{said}");
    let base = said.lines().position(is_base);
    let first = said.lines().position(|line| line.starts_with("#1 ")).unwrap();
    assert!(base.is_some_and(|base| base > first + 2), "a whole backtrace: {said}");
    assert!(line("no coroutine 0.99: see info coroutines"), "{said}");
    assert!(line("coroutine 1 is one of several machines': 0.1, 1.1"), "{said}");
    assert!(line("which coroutine, and what there?"), "{said}");
    assert!(said.lines().any(|line| line.starts_with("#0 ")), "the thread is as it was: {said}");
    // It has not noticed.
    client.write_all(b"y").unwrap();
    std::io::Read::read_exact(&mut client, &mut [0]).unwrap();
}

#[test]
fn without_debug_information_and_in_a_simulated_world() {
    let program = without_debug_information("kv");
    let _removed = Removed(&program);
    let arguments = ["--args", program.to_str().unwrap(), "replay", "--seed", "1"];
    let commands = ["info coroutines", "coroutine t1 bt", "coroutine all bt"];
    let Some(said) = gdb(&["run"], &commands, &arguments) else { return };
    assert!(said.contains("SIGTRAP"), "{said}");
    assert!(said.contains("simulated threads") && said.contains("script/script"), "{said}");
    // Each process has a machine 0.
    assert!(said.contains("machine 0#1 ") && said.contains("  0#2.1 "), "{said}");
    let script = said.lines().position(|line| line.contains("machinarium_sim::script::World"));
    assert!(script.is_some(), "the backtrace of the script: {said}");
    let bases = said.lines().filter(|line| is_base(line)).count();
    let all = said
        .lines()
        .filter(|line| line.starts_with("coroutine 0#") || line.starts_with("coroutine t"))
        .count();
    let unbegun = said.matches("it has not begun, and has no frames").count();
    assert!(
        bases > 4 && bases == 1 + all - unbegun,
        "backtraces go down to their bases, the first twice: {said}"
    );
}

#[test]
fn without_a_process_it_says_so() {
    let program = path("kv");
    let Some(said) = gdb(&[], &["info coroutines"], &[program.to_str().unwrap()]) else { return };
    assert!(said.contains("the program does not run, and there is no core of it"), "{said}");
}
