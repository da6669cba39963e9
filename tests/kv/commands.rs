//! Each command as a line of text and the reply that it gets, on one store whose time the test sets.

use crate::command::{self, Place};
use crate::reply::Reply;
use crate::resp::{Arguments, Limits, Parser};
use crate::store::Store;

const SECOND: u64 = 1_000_000_000;

/// Runs lines of `command => reply`; a line `@seconds` sets the time.
fn check(script: &str) {
    let mut store = Store::new(1 << 20, 7);
    let mut now = SECOND;
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(seconds) = line.strip_prefix('@') {
            now = (seconds.parse::<f64>().unwrap() * SECOND as f64) as u64;
            continue;
        }
        let (command, expected) = line.split_once(" => ").expect("command => reply");
        assert_eq!(run(&mut store, command, now), expected, "{command}");
    }
}

fn run(store: &mut Store, line: &str, now: u64) -> String {
    let bytes = format!("{line}\n").into_bytes();
    let mut parser = Parser::new(Limits::default());
    parser.advance(&bytes).unwrap().unwrap();
    let arguments = parser.arguments(&bytes);
    let reply = match command::find(arguments) {
        Err(error) => error,
        Ok(command) => match command.place {
            Place::Session(session) => Reply::Error(format!("{session:?}")),
            Place::Key(run) | Place::Every { run, .. } => run(store, arguments, now),
            Place::Keys { run, step, merge } => {
                let words: Vec<&[u8]> = arguments.iter().collect();
                let parts = words[1..].chunks(step).map(|group| {
                    let bytes = [words[0], &group.concat()].concat();
                    let mut end = words[0].len();
                    let mut ranges = Vec::new();
                    ranges.push(0..end);
                    ranges.extend(group.iter().map(|word| {
                        end += word.len();
                        end - word.len()..end
                    }));
                    run(store, Arguments::new(&bytes, &ranges), now)
                });
                merge.join(parts.collect())
            }
        },
    };
    show(&reply)
}

fn show(reply: &Reply) -> String {
    match reply {
        Reply::Simple(text) => (*text).to_owned(),
        Reply::Error(text) => format!("!{text}"),
        Reply::Integer(value) => value.to_string(),
        Reply::Bulk(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Reply::Nil => "nil".to_owned(),
        Reply::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
    }
}

#[test]
fn strings() {
    check(
        r#"
        get a => nil
        set a 1 => OK
        GET a => "1"
        set a "" => OK
        get a => ""
        exists a a b => 2
        mset a 1 b 2 => OK
        mget a b c a => ["1" "2" nil "1"]
        del a c => 1
        unlink a b => 1
        dbsize => 0
        mset a 1 b 2 => OK
        dbsize => 2
        flushall => OK
        dbsize => 0
        "#,
    );
}

#[test]
fn set_options() {
    check(
        r#"
        set a 1 xx => nil
        get a => nil
        set a 1 nx => OK
        set a 2 nx => nil
        get a => "1"
        set a 2 XX => OK
        set a 3 get => "2"
        set b 1 get => nil
        set b 2 nx get => "1"
        get b => "1"
        set a 4 ex 10 => OK
        ttl a => 10
        set a 5 keepttl => OK
        ttl a => 10
        set a 6 => OK
        ttl a => -1
        set a 7 px 1500 => OK
        pttl a => 1500
        set a 8 ex 0 => !ERR invalid expire time in 'set' command
        set a 8 ex -1 => !ERR invalid expire time in 'set' command
        set a 8 ex 9223372036854775807 => !ERR invalid expire time in 'set' command
        set a 8 ex x => !ERR value is not an integer or out of range
        set a 8 ex => !ERR syntax error
        set a 8 ex 1 px 1 => !ERR syntax error
        set a 8 ex 1 keepttl => !ERR syntax error
        set a 8 nx xx => !ERR syntax error
        set a 8 no => !ERR syntax error
        get a => "7"
        "#,
    );
}

#[test]
fn counters() {
    check(
        r#"
        incr a => 1
        incr a => 2
        set a 9223372036854775806 => OK
        incr a => 9223372036854775807
        incr a => !ERR increment or decrement would overflow
        set a x => OK
        incr a => !ERR value is not an integer or out of range
        set a " 1" => OK
        incr a => !ERR value is not an integer or out of range
        set a -1 ex 5 => OK
        incr a => 0
        ttl a => 5
        "#,
    );
}

#[test]
fn expiry() {
    check(
        r#"
        ttl a => -2
        expire a 10 => 0
        set a 1 => OK
        ttl a => -1
        persist a => 0
        expire a 10 => 1
        ttl a => 10
        @5.6
        ttl a => 5
        pttl a => 5400
        persist a => 1
        persist a => 0
        ttl a => -1
        pexpire a 100 => 1
        @5.699
        pttl a => 1
        @5.7
        get a => nil
        ttl a => -2
        exists a => 0
        del a => 0
        set a 1 => OK
        expire a 0 => 1
        exists a => 0
        set a 1 => OK
        expire a -5 => 1
        exists a => 0
        set a 1 => OK
        expire a 9223372036854775807 => !ERR invalid expire time in 'expire' command
        expire a x => !ERR value is not an integer or out of range
        set a 1 px 1 => OK
        @6
        set a 2 xx => nil
        set a 2 nx => OK
        get a => "2"
        "#,
    );
}

#[test]
fn what_is_no_command() {
    check(
        r#"
        nonsense => !ERR unknown command 'nonsense'
        "a\r\nb" => !ERR unknown command 'a\r\nb'
        get => !ERR wrong number of arguments for 'get' command
        get a b => !ERR wrong number of arguments for 'get' command
        set a => !ERR wrong number of arguments for 'set' command
        mset a 1 b => !ERR wrong number of arguments for 'mset' command
        mset a => !ERR wrong number of arguments for 'mset' command
        del => !ERR wrong number of arguments for 'del' command
        "#,
    );
}

#[test]
fn memory() {
    let mut store = Store::new(1000, 7);
    let large = "x".repeat(1000);
    let refused = "!OOM command not allowed when used memory > 'maxmemory'.";
    assert_eq!(run(&mut store, &format!("set a {large}"), 0), refused);
    assert_eq!(run(&mut store, &format!("mset a 1 b {large}"), 0), refused);
    assert_eq!(run(&mut store, "set c 1", 0), "OK");
}
