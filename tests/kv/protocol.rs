//! The parser: tables of requests, cuts at every byte, random bytes; and the encoding of replies.

use crate::Random;
use crate::reply::{Reply, encode_command};
use crate::resp::{Limits, Parser, parse_integer};

const SMALL: Limits = Limits { line: 64, bulk: 100, arguments: 10, request: 300 };

/// Everything in `bytes`, shown `step` bytes at a time, in text: one line for each request, the error last.
fn parse(bytes: &[u8], limits: Limits, step: usize) -> String {
    let mut parser = Parser::new(limits);
    let mut text = String::new();
    let (mut start, mut shown) = (0, 0);
    while shown < bytes.len() {
        shown = bytes.len().min(shown + step);
        loop {
            match parser.advance(&bytes[start..shown]) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    let words =
                        parser.arguments(&bytes[start..]).iter().map(|word| word.escape_ascii().to_string());
                    text += &format!("{}\n", words.collect::<Vec<_>>().join("|"));
                    parser.reset();
                    start += length;
                }
                Err(error) => return text + &format!("! {error}\n"),
            }
        }
    }
    text
}

/// The same however the bytes are cut.
fn check(input: &[u8], expected: &str) {
    for step in [1, 2, 3, 7, input.len().max(1)] {
        assert_eq!(parse(input, SMALL, step), expected, "{} by {step}", input.escape_ascii());
    }
}

#[test]
fn requests() {
    check(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "GET|a\n");
    check(b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nQUIT\r\n", "PING\nQUIT\n");
    check(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", "GET|\n");
    check(b"*2\r\n$3\r\nGET\r\n$4\r\n\r\n\r\n\r\n", "GET|\\r\\n\\r\\n\n");
    check(b"*0\r\n*-1\r\nPING\r\n", "\n\nPING\n");
    check(b"*1\r\n$4\r\nPIN", "");
}

#[test]
fn inline_commands() {
    check(b"PING\r\n", "PING\n");
    check(b"  set  a\tb \n", "set|a|b\n");
    check(b"\r\n\nPING\n", "\n\nPING\n");
    check(b"set a \"x \\\"\\x41\\n\\\\\"\r\n", "set|a|x \\\"A\\n\\\\\n");
    check(b"set a 'x \\' \\n'\r\n", "set|a|x \\' \\\\n\n");
    check(b"set a ''\r\n", "set|a|\n");
    check(b"set a \"x\r\n", "! Protocol error: unbalanced quotes in request\n");
    check(b"set a 'x'y\r\n", "! Protocol error: unbalanced quotes in request\n");
    check(b"1 2 3 4 5 6 7 8 9 10 11\r\n", "! Protocol error: invalid multibulk length\n");
}

#[test]
fn what_is_refused() {
    let length = "! Protocol error: invalid bulk length\n";
    let count = "! Protocol error: invalid multibulk length\n";
    check(b"*1\r\n$101\r\n", length);
    check(b"*1\r\n$-1\r\n", length);
    check(b"*1\r\n$+1\r\n", length);
    check(b"*1\r\n$\r\n", length);
    check(b"*1\r\n$99999999999999999999\r\n", length);
    check(b"*11\r\n", count);
    check(b"*x\r\n", count);
    check(b"*\r\n", count);
    check(b"*9223372036854775808\r\n", count);
    check(b"*1\r\n+1\r\n", "! Protocol error: expected '$', got '+'\n");
    check(b"*1\r\n\r\n", "! Protocol error: expected '$', got '\\r'\n");
    check(b"*1\n", "! Protocol error: expected CRLF\n");
    check(b"*1\r\n$1\r\nabc", "! Protocol error: expected CRLF\n");
    check(&[b'a'; 64], "! Protocol error: too big inline request\n");
    check(&[&b"*"[..], &[b'1'; 64]].concat(), "! Protocol error: too big mbulk count string\n");
    check(&[&b"*1\r\n$"[..], &[b'1'; 64]].concat(), "! Protocol error: too big bulk count string\n");
    let bulk = [&b"$90\r\n"[..], &[b'x'; 90], b"\r\n"].concat();
    check(&[&b"*4\r\n"[..], &bulk, &bulk, &bulk, &bulk].concat(), "! Protocol error: too big request\n");
}

#[test]
fn a_line_of_exactly_the_limit_passes() {
    let mut line = vec![b'a'; 62];
    line.extend_from_slice(b"\r\n");
    check(&line, &format!("{}\n", "a".repeat(62)));
}

/// Bytes that look like requests now and then.
fn noise(random: &mut Random) -> Vec<u8> {
    let pieces: [&[u8]; 10] =
        [b"*2\r\n", b"$3\r\n", b"GET\r\n", b"\r\n", b"*", b"$1\r\nx\r\n", b"\"", b"'", b"-1", b"*99\r\n"];
    let mut bytes = Vec::new();
    for _ in 0..random.below(40) {
        if random.below(3) == 0 {
            bytes.extend((0..random.below(20)).map(|_| random.next() as u8));
        } else {
            bytes.extend_from_slice(pieces[random.below(pieces.len())]);
        }
    }
    bytes
}

#[test]
fn random_bytes_are_parsed_alike_however_they_are_cut() {
    let mut requests = 0;
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let bytes = noise(&mut random);
        let whole = parse(&bytes, SMALL, bytes.len().max(1));
        assert_eq!(whole, parse(&bytes, SMALL, 1), "seed {seed}");
        assert_eq!(whole, parse(&bytes, SMALL, 1 + random.below(9)), "seed {seed}");
        requests += whole.lines().count();
    }
    assert!(requests > 20_000, "the noise has too few requests in it: {requests}");
}

#[test]
fn a_long_request_byte_by_byte_takes_linear_time() {
    // Quadratic time would be 10^12 steps here, and this test would be killed.
    let mut request = Vec::new();
    let words = vec![&b"x"[..]; 100_000];
    encode_command(&words, &mut request);
    let mut parser = Parser::new(Limits::default());
    let complete = (0..=request.len()).find_map(|end| parser.advance(&request[..end]).unwrap());
    assert_eq!(complete, Some(request.len()));
    assert_eq!(parser.arguments(&request).len(), 100_000);
}

#[test]
fn commands_are_read_as_they_were_sent() {
    let mut random = Random(1);
    for _ in 0..2_000 {
        let words: Vec<Vec<u8>> = (0..1 + random.below(9))
            .map(|_| (0..random.below(20)).map(|_| random.next() as u8).collect())
            .collect();
        let slices: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut bytes = Vec::new();
        encode_command(&slices, &mut bytes);
        let mut parser = Parser::new(SMALL);
        assert_eq!(parser.advance(&bytes), Ok(Some(bytes.len())));
        assert!(parser.arguments(&bytes).iter().eq(slices));
    }
}

#[test]
fn integers() {
    let good: [(&[u8], i64); 6] = [
        (b"0", 0),
        (b"-1", -1),
        (b"42", 42),
        (b"9223372036854775807", i64::MAX),
        (b"-9223372036854775808", i64::MIN),
        (b"1000", 1000),
    ];
    for (text, value) in good {
        assert_eq!(parse_integer(text), Some(value));
    }
    for text in ["", "-", "-0", "+1", "01", " 1", "1 ", "1.0", "9223372036854775808", "-9223372036854775809"]
    {
        assert_eq!(parse_integer(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn replies() {
    let encoded = |reply: Reply| {
        let mut out = Vec::new();
        reply.encode(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(encoded(Reply::OK), "+OK\r\n");
    assert_eq!(encoded(Reply::error("ERR no")), "-ERR no\r\n");
    assert_eq!(encoded(Reply::Integer(0)), ":0\r\n");
    assert_eq!(encoded(Reply::Integer(i64::MIN)), ":-9223372036854775808\r\n");
    assert_eq!(encoded(Reply::bulk(b"a\r\nb")), "$4\r\na\r\nb\r\n");
    assert_eq!(encoded(Reply::Nil), "$-1\r\n");
    let nested = Reply::Array(vec![Reply::Nil, Reply::Array(vec![]), Reply::Integer(-7)]);
    assert_eq!(encoded(nested), "*3\r\n$-1\r\n*0\r\n:-7\r\n");
}
