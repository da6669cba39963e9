//! chat: one order for all, on several machines; endless lines, and the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::program::{Program, await_refusal, hunt, output};

fn start() -> (Program, String) {
    let mut program = Program::start("chat", &["--listen", "127.0.0.1:0", "--machines", "3"]);
    let address = program.line("chat: listening on ");
    (program, address)
}

struct Member {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Member {
    /// Who has heard itself is there.
    fn enter(address: &str) -> Member {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        let mut member = Member { stream, lines };
        member.say("hello");
        assert!(member.hear().ends_with(": hello\n"));
        member
    }

    fn say(&mut self, text: &str) {
        writeln!(self.stream, "{text}").unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }
}

#[test]
fn all_hear_all_in_one_order() {
    let (_program, address) = start();
    let mut members: Vec<_> = (0..5).map(|_| Member::enter(&address)).collect();
    // Each has heard those who came after it.
    for (place, member) in members.iter_mut().enumerate() {
        (place..4).for_each(|_| assert!(member.hear().ends_with(": hello\n")));
    }
    for round in 0..20 {
        members.iter_mut().for_each(|member| member.say(&format!("round {round}")));
    }
    let heard: Vec<Vec<String>> =
        members.iter_mut().map(|member| (0..100).map(|_| member.hear()).collect()).collect();
    assert!(heard.iter().all(|lines| *lines == heard[0]), "{heard:?}");
}

#[test]
fn a_line_without_an_end_is_not_heard_and_not_kept() {
    let (_program, address) = start();
    let mut listener = Member::enter(&address);
    let mut endless = Member::enter(&address);
    listener.hear();
    // It is cut off, so at some time nobody takes this any more.
    assert!((0..10_000).any(|_| endless.stream.write_all(&[b'x'; 10_000]).is_err()), "100 MB without an end");
    let mut shy = Member::enter(&address);
    assert!(listener.hear().ends_with(": hello\n"));
    shy.stream.write_all(b"and then").unwrap();
    drop(shy);
    listener.say("bye");
    assert!(listener.hear().ends_with(": bye\n"));
}

#[test]
fn sigterm_lets_members_talk_on_for_a_while() {
    let (mut program, address) = start();
    let mut members = [Member::enter(&address), Member::enter(&address)];
    members[0].hear();
    program.signal("TERM");
    assert_eq!(program.news("chat: "), "SIGTERM: members: 2; they have 10s to leave");
    await_refusal(&address);
    members[0].say("bye");
    assert!(members[1].hear().ends_with(": bye\n"));
    drop(members);
    assert_eq!(program.ended(), Some(0));
}

#[test]
fn one_who_ends_its_half_is_let_go() {
    let (_program, address) = start();
    let mut member = Member::enter(&address);
    member.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(member.lines.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn what_it_refuses() {
    for arguments in [&["--listen", "nowhere"][..], &["--queue", "0"], &["hunt", "--seeds", "0"]] {
        let output = output("chat", arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{arguments:?}: {said}");
    }
}

#[test]
fn the_hunt_finds_a_planted_bug() {
    let (status, said) = hunt("chat", &["--seeds", "8000", "--bug", "gap"]);
    assert_eq!(status, 1, "{said}");
    let (status, said) = hunt("chat", &["--seeds", "100"]);
    assert_eq!(status, 0, "{said}");
}
