//! Runs one test of this binary again in a process of its own.

use std::ffi::OsStr;
use std::process::{Command, Output};

/// Set in a child, to the name of the test that it is to run.
pub const VARIABLE: &str = "MACHINARIUM_TEST_CHILD";

/// In the child, runs `body` and ends the process with success; in the parent, runs the child and gives what it left.
pub fn in_child(name: &str, body: impl FnOnce()) -> Output {
    in_child_with(name, &[], body)
}

/// The same with variables in the child's environment.
#[allow(dead_code)] // not every binary has such tests
pub fn in_child_with(name: &str, variables: &[(&str, &OsStr)], body: impl FnOnce()) -> Output {
    if std::env::var(VARIABLE).as_deref() == Ok(name) {
        body();
        std::process::exit(0);
    }
    let mut command = command(this_binary(), name);
    command.envs(variables.iter().copied()).output().unwrap()
}

/// This test binary, under the emulator that cargo runs it under, if it does.
fn this_binary() -> Command {
    let binary = std::env::current_exe().unwrap();
    let Some(emulator) = emulator() else { return Command::new(binary) };
    let mut words = emulator.split_whitespace();
    let mut command = Command::new(words.next().expect("an emulator has a name"));
    command.args(words).arg(binary);
    command
}

/// For another processor than this machine's, as cargo is told of it.
pub fn emulator() -> Option<String> {
    let variable = std::env::var("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER").ok();
    variable.filter(|_| cfg!(target_arch = "aarch64"))
}

/// `program`, told to run that test as a child.
pub fn command(mut program: Command, name: &str) -> Command {
    program.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(VARIABLE, name);
    program
}

/// Whether the child ended well, with all it said if not.
pub fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}\n{}", output.status, said(output));
}

/// Both of its outputs.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}
