//! A failure that explains itself: its choices in words, where it was decided, and a stop for a debugger.

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use machinarium::net::{TcpListener, TcpStream};
use machinarium_sim::{Check, Durations, Fault, Faults, LinkOptions, World};

use crate::raw;

fn complaint(check: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("the check should fail");
    *panic.downcast::<String>().expect("a check fails with a report")
}

fn echo() -> io::Result<()> {
    machinarium::run(|| {
        let listener = TcpListener::bind("0.0.0.0:7000")?;
        let (stream, _) = listener.accept()?;
        let mut buf = [0; 64];
        loop {
            match (&stream).read(&mut buf)? {
                0 => return Ok(()),
                count => stream.write_all(&buf[..count])?,
            }
        }
    })
}

/// Ten questions, of which only the seventh is in a hurry.
fn hasty() -> io::Result<()> {
    machinarium::run(|| {
        machinarium::sleep(10.millis())?;
        let stream = TcpStream::connect(raw::server(1))?;
        for question in 0..10 {
            let asked = machinarium::now();
            stream.write_all(b"question")?;
            stream.read_exact(&mut [0; 8])?;
            let took = machinarium::now() - asked;
            assert!(question != 6 || took < 80.millis(), "the answer is late");
            machinarium::sleep(5.millis())?;
        }
        Ok(())
    })
}

fn script(world: &World) {
    let server = world.host("server").run(echo);
    let client = world.host("client");
    let options = LinkOptions { latency_min: 1.millis(), latency_max: 50.millis(), ..LinkOptions::default() };
    let client = client.run(hasty);
    world.link(&server, &client, options);
    world.eventually(60.secs(), || client.finished());
}

/// Two add one to a sum in a file: each reads it, writes it, and then says what it is.
fn sums() -> io::Result<()> {
    machinarium::run(|| {
        let sum = std::cell::Cell::new(0);
        let file = machinarium::file::File::create("sum")?;
        machinarium::scope(|scope| {
            for number in 0..2 {
                let (sum, file) = (&sum, &file);
                scope.spawn(move || -> io::Result<()> {
                    machinarium::sleep((1 + number).millis())?;
                    let new = sum.get() + 1;
                    file.write_all_at(&[new], 0)?;
                    file.sync_data()?;
                    sum.set(new);
                    Ok(())
                });
            }
        });
        assert_eq!(sum.get(), 2, "an addition is lost");
        Ok(())
    })
}

#[test]
fn a_slow_file_is_told_in_words() {
    let said = complaint(|| {
        Check::new().seeds(1000).run(|world| {
            let host = world.host("adder").run(sums);
            world.join(&host);
        });
    });
    assert!(said.contains(" times as long for a file"), "not told in words: {said}");
}

#[test]
fn a_failure_tells_its_choices_in_words_and_when_it_was_decided() {
    let said = complaint(|| Check::new().seeds(1000).run(script));
    // Both ways were slow at the seventh question, and nothing else matters.
    for wanted in [
        "the link client -> server takes ",
        "the link server -> client takes ",
        " for 8 bytes from 48",
        "that matter (",
        "without choice ",
        "random futures fail, from points along the failing run",
        "it was decided by choice ",
    ] {
        assert!(said.contains(wanted), "{wanted} is missing in\n{said}");
    }
    let last = said.lines().rfind(|line| line.trim().starts_with("after choice")).expect("the curve");
    assert!(last.contains(" 24  ###"), "at its end all futures fail: {last}");
    let first = said.lines().find(|line| line.trim().starts_with("after choice")).unwrap();
    assert!(!first.contains(" 24  ###"), "at its beginning few do: {first}");
}

#[test]
fn a_fault_that_matters_is_told_by_what_it_did() {
    let faults = Faults::none().rate(Fault::Loss, 20);
    let said = complaint(|| {
        Check::new().seeds(1000).faults(faults).run(|world| {
            let server = world.host("server").run(echo);
            let client = world.host("client").run(hasty);
            while !client.finished() {
                world.sleep(10.millis());
            }
            drop(server);
        });
    });
    assert!(said.contains("1 that matter ("), "{said}");
    assert!(said.contains(": a packet of 8 bytes is lost"), "{said}");
}

#[test]
fn a_debugger_is_called_before_a_choice() {
    let run = |at: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["regression::doomed", "--exact", "--include-ignored"]);
        let output = command.env("MACHINARIUM_SEED", "1").env("MACHINARIUM_BREAK_AT", at).output().unwrap();
        output.status
    };
    // Without a debugger SIGTRAP ends the process.
    assert_eq!(run("1").signal(), Some(5));
    assert!(run("1000000").success(), "the run has no such choice");
}
