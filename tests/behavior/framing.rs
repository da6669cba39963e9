//! Messages on streams: whole or not at all, in their order, whatever gives up or ends, on TCP, Unix sockets and TLS.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use crate::both;
use crate::tcp::{pair, with_pair};
use crate::tls::with_tls;
use machinarium::message::{Counted, Framing, FramingError, Header, LengthPrefix, MessageStream, ReadError};
use machinarium::net::UnixStream;
use machinarium::{Message, cancelled, run, scope, sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(20);
const POSTGRES: LengthPrefix = LengthPrefix::postgres();

/// Every length at which something may change, header and data together too.
const LENGTHS: [usize; 14] =
    [0, 1, 2, 127, 128, 129, 511, 512, 513, (16 << 10) - 5, 16 << 10, (64 << 10) - 5, 70_000, 3];

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

/// Whose bytes depend on its kind and their places.
fn message(kind: u8, length: usize) -> Message {
    let mut message = Message::builder(kind);
    message.extend((0..length).map(|place| (place as u8).wrapping_mul(kind)));
    message.freeze()
}

fn messages() -> Vec<Message> {
    LENGTHS.iter().zip(1..).map(|(length, kind)| message(kind, *length)).collect()
}

/// Lengths of seven bits to a byte, all but the last with the eighth set; no kinds.
struct Varint;

impl Framing for Varint {
    fn read_header(&self, bytes: &[u8]) -> Result<Option<Header>, FramingError> {
        let Some(last) = bytes.iter().position(|byte| *byte < 128) else { return Ok(None) };
        let length = bytes[..=last].iter().rev().fold(0, |length, byte| length << 7 | u64::from(byte & 127));
        Ok(Some(Header { kind: 0, size: last + 1, length }))
    }

    fn write_header(&self, _: u32, mut length: usize, header: &mut Vec<u8>) -> Result<(), FramingError> {
        while length >= 128 {
            header.push(length as u8 | 128);
            length >>= 7;
        }
        header.push(length as u8);
        Ok(())
    }
}

/// One by one, then all at once, then without a kind.
fn round_trips<S: MessageStream>(one: &S, other: &S) -> io::Result<()> {
    let sent = messages();
    let wide = LengthPrefix::new().length_bytes(8).little_endian().counted(Counted::Message);
    let framings: [&dyn Framing; 4] = [&POSTGRES, &LengthPrefix::new(), &wide, &Varint];
    for framing in framings {
        scope(|scope| {
            scope.spawn(|| -> io::Result<()> {
                for message in &sent {
                    one.write_message(framing, message)?;
                }
                Ok(one.write_messages(framing, &sent)?)
            });
            for expected in sent.iter().chain(&sent) {
                let found = other.read_message(framing)?.expect("a message");
                assert_eq!(&found[..], &expected[..]);
                assert!(found.kind() == expected.kind() || found.kind() == 0);
            }
            Ok::<(), io::Error>(())
        })?;
    }
    Ok(())
}

#[test]
fn messages_of_every_length_and_framing_come_as_they_were_sent() {
    both(|| {
        with_pair(|client, server| round_trips(&client, &server));
        in_a_machine(|| {
            let (one, other) = UnixStream::pair()?;
            one.set_coalescing(1000);
            round_trips(&one, &other)
        });
        with_tls(|client, server| round_trips(&client, &server));
    });
}

#[test]
fn the_bytes_are_those_of_the_protocol() {
    both(|| {
        in_a_machine(|| {
            let (one, mut other) = UnixStream::pair()?;
            one.write_messages(&POSTGRES, &[Message::new('Q', "select 1\0"), Message::new('S', "")])?;
            let startup = POSTGRES.kind_bytes(0);
            one.write_message(&startup, &Message::new(0_u8, b"\0\x03\0\0".as_slice()))?;
            drop(one);
            let mut bytes = Vec::new();
            other.read_to_end(&mut bytes)?;
            assert_eq!(bytes, b"Q\0\0\0\x0dselect 1\0S\0\0\0\x04\0\0\0\x08\0\x03\0\0");
            Ok(())
        });
    });
}

#[test]
fn plain_reads_and_messages_follow_each_other() {
    both(|| {
        with_pair(|client, server| {
            client.write_all(b"hello\n")?;
            client.write_message(&POSTGRES, &message(7, 300))?;
            client.write_all(b"bye")?;
            let mut line = Vec::new();
            server.read_until(b'\n', &mut line)?;
            assert_eq!(line, b"hello\n");
            assert_eq!(server.read_message(&POSTGRES)?, Some(message(7, 300)));
            let mut rest = [0; 3];
            server.read_exact(&mut rest)?;
            assert_eq!(&rest, b"bye");
            Ok(())
        });
    });
}

/// At every byte of a message the peer stops for a while, and the reader gives up.
fn giving_up_takes_nothing<S: MessageStream + 'static>(
    reader: &Rc<S>,
    write: &dyn Fn(&[u8]) -> io::Result<()>,
    length: usize,
    step: usize,
) -> io::Result<()> {
    let mut whole = Vec::new();
    POSTGRES.write_header(3, length, &mut whole).unwrap();
    whole.extend_from_slice(&message(3, length));
    for cut in (0..whole.len()).step_by(step) {
        write(&whole[..cut])?;
        let late = timeout(SHORT, || reader.read_message(&POSTGRES)).unwrap_err();
        assert_eq!(io::Error::from(late).kind(), ErrorKind::TimedOut);
        let theirs = reader.clone();
        let waits = spawn(move || theirs.read_message(&POSTGRES));
        yield_now();
        waits.cancel("enough")?;
        let error = io::Error::from(waits.join()?.unwrap_err());
        assert_eq!(cancelled(&error).expect("cancelled").cause(), "enough");
        write(&whole[cut..])?;
        assert_eq!(reader.read_message(&POSTGRES)?, Some(message(3, length)));
    }
    Ok(())
}

#[test]
fn a_call_that_gives_up_has_taken_nothing() {
    both(|| {
        with_pair(|client, server| {
            let server = Rc::new(server);
            giving_up_takes_nothing(&server, &|bytes| Ok(client.write_all(bytes)?), 9, 1)?;
            giving_up_takes_nothing(&server, &|bytes| Ok(client.write_all(bytes)?), 40_000, 9973)
        });
        with_tls(|client, server| {
            let server = Rc::new(server);
            giving_up_takes_nothing(&server, &|bytes| Ok(client.write_all(bytes)?), 9, 3)
        });
    });
}

/// However often the reader is stopped, and wherever.
#[test]
fn a_reader_in_a_hurry_gets_all_in_order() {
    both(|| {
        with_pair(|client, server| {
            let sent = messages();
            scope(|scope| {
                let writer = scope.spawn(|| {
                    sent.iter().try_for_each(|message| {
                        yield_now();
                        client.write_message(&POSTGRES, message)
                    })
                });
                let mut tries = 0;
                for expected in &sent {
                    let found = loop {
                        match timeout(Duration::from_micros(1 << (tries % 10)), || {
                            server.read_message(&POSTGRES)
                        }) {
                            Ok(found) => break found,
                            Err(ReadError::Io(error)) if error.kind() == ErrorKind::TimedOut => {}
                            Err(error) => return Err(error.into()),
                        }
                        tries += 1;
                    };
                    assert_eq!(found.as_ref(), Some(expected));
                }
                Ok(writer.join()??)
            })
        });
    });
}

#[test]
fn what_is_too_long_is_told_and_stays_where_it_is() {
    both(|| {
        with_pair(|client, server| {
            client.write_messages(&POSTGRES, &[message(1, 100), message(2, 101), message(3, 5)])?;
            let framing = POSTGRES.limit(100);
            assert_eq!(server.read_message(&framing)?, Some(message(1, 100)));
            for _ in 0..2 {
                let error = server.read_message(&framing).unwrap_err();
                assert_eq!(error.to_string(), "a message of 101 bytes, and 100 is the limit");
                assert!(matches!(error, ReadError::TooLong { announced: 101, limit: 100 }));
                assert_eq!(io::Error::from(error).kind(), ErrorKind::InvalidData);
            }
            assert_eq!(server.read_message(&POSTGRES.limit(101))?, Some(message(2, 101)));
            // The machine's own limit. Nobody waits, or makes room, for what is only announced.
            client.write_all(b"X\xff\xff\xff\xff")?;
            assert_eq!(server.read_message(&POSTGRES)?, Some(message(3, 5)));
            match server.read_message(&POSTGRES) {
                Err(ReadError::TooLong { announced: 0xffff_fffb, limit }) => assert_eq!(limit, 16 << 20),
                other => panic!("{other:?}"),
            }
            Ok(())
        });
    });
}

#[test]
fn what_is_no_message_is_refused() {
    both(|| {
        with_pair(|client, server| {
            client.write_all(b"X\0\0\0\x03")?;
            let error = server.read_message(&POSTGRES).unwrap_err();
            assert_eq!(error.to_string(), "no message: a length of 3, which counts 4 bytes of the header");
            server.read_exact(&mut [0; 5])?;
            client.write_all(&[255; 64])?;
            let error = server.read_message(&Varint).unwrap_err();
            assert_eq!(error.to_string(), "no message: a header without an end");
            // Nothing is written of what cannot be framed.
            let error = client.write_message(&POSTGRES, &Message::new(256_u32, "")).unwrap_err();
            assert_eq!((error.written, error.source.kind()), (0, ErrorKind::InvalidInput));
            assert!(error.source.get_ref().unwrap().is::<FramingError>());
            Ok(())
        });
    });
}

#[test]
fn an_end_between_messages_is_none_and_one_inside_is_an_error() {
    both(|| {
        for (length, of) in [(0, None), (1, None), (4, None), (5, Some(15)), (14, Some(15)), (15, Some(15))] {
            with_pair(|client, server| {
                let bytes = b"Q\0\0\0\x0e0123456789";
                client.write_message(&POSTGRES, &message(9, 700))?;
                client.write_all(&bytes[..length])?;
                client.shutdown(Shutdown::Write)?;
                assert_eq!(server.read_message(&POSTGRES)?, Some(message(9, 700)));
                if length == 15 {
                    assert_eq!(server.read_message(&POSTGRES)?.unwrap().len(), 10);
                }
                match server.read_message(&POSTGRES) {
                    Ok(None) => assert!(length == 0 || length == 15),
                    Err(ReadError::Truncated { received, expected }) => {
                        assert_eq!((received, expected), (length, of));
                        // It is there for whoever wants to see it.
                        let mut rest = Vec::new();
                        (&server).read_to_end(&mut rest)?;
                        assert_eq!(rest, bytes[..length]);
                    }
                    other => panic!("{length}: {other:?}"),
                }
                Ok(())
            });
        }
    });
}

#[test]
fn tls_that_is_cut_off_is_no_end() {
    both(|| {
        with_tls(|client, server| {
            client.write_message(&POSTGRES, &message(1, 10))?;
            client.get_ref().shutdown(Shutdown::Write)?;
            assert_eq!(server.read_message(&POSTGRES)?, Some(message(1, 10)));
            let error = io::Error::from(server.read_message(&POSTGRES).unwrap_err());
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            Ok(())
        });
    });
}

#[test]
fn a_write_that_fails_says_how_much_was_written() {
    both(|| {
        with_pair(|client, server| {
            let some = [7, 8, 9, 10, 11].map(|kind| message(kind, 2000 + usize::from(kind)));
            let many: Vec<_> = some.iter().cloned().cycle().take(3000).collect();
            let error = timeout(SHORT * 20, || client.write_messages(&POSTGRES, &many)).unwrap_err();
            assert_eq!(error.source.kind(), ErrorKind::TimedOut);
            client.shutdown(Shutdown::Write)?;
            let mut received = 0;
            let mut whole = Vec::new();
            loop {
                match server.read_message(&POSTGRES) {
                    Ok(Some(message)) => {
                        received += 5 + message.len();
                        whole.push(message);
                    }
                    Ok(None) => break,
                    Err(ReadError::Truncated { received: part, .. }) => {
                        received += part;
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            assert_eq!(received, error.written);
            assert_eq!(whole[..], many[..whole.len()]);
            Ok(())
        });
    });
}

#[test]
fn messages_of_several_writers_do_not_mix_and_readers_get_whole_ones() {
    both(|| {
        with_pair(|client, server| {
            const EACH: usize = 30;
            let found = RefCell::new(Vec::new());
            scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| -> io::Result<()> {
                        while let Some(message) = server.read_message(&POSTGRES)? {
                            found.borrow_mut().push(message);
                            yield_now();
                        }
                        Ok(())
                    });
                }
                let writers: Vec<_> = [(1, 10), (2, 600), (3, 20_000)]
                    .map(|(kind, length)| {
                        let client = &client;
                        scope.spawn(move || {
                            (0..EACH)
                                .try_for_each(|_| client.write_message(&POSTGRES, &message(kind, length)))
                        })
                    })
                    .into();
                for writer in writers {
                    writer.join()??;
                }
                client.shutdown(Shutdown::Write)
            })?;
            let found = found.into_inner();
            for (kind, length) in [(1, 10), (2, 600), (3, 20_000)] {
                let theirs = message(kind, length);
                assert_eq!(found.iter().filter(|message| **message == theirs).count(), EACH);
            }
            assert_eq!(found.len(), 3 * EACH);
            Ok(())
        });
    });
}

/// A framing may do as it likes, also what would be a loop or a panic.
#[test]
fn a_framing_that_is_wrong_is_an_error() {
    struct Wrong(Header);
    impl Framing for Wrong {
        fn read_header(&self, bytes: &[u8]) -> Result<Option<Header>, FramingError> {
            yield_now();
            Ok(Some(self.0).filter(|_| bytes.len() >= 4))
        }
        fn write_header(&self, _: u32, _: usize, _: &mut Vec<u8>) -> Result<(), FramingError> {
            Ok(())
        }
        fn limit(&self) -> Option<usize> {
            Some(usize::MAX)
        }
    }
    both(|| {
        in_a_machine(|| {
            let (one, other) = UnixStream::pair()?;
            one.write_all(b"four")?;
            sleep(SHORT)?;
            for (size, length) in [(0, 0), (100, 0), (5, u64::MAX)] {
                let error = other.read_message(&Wrong(Header { kind: 1, size, length })).unwrap_err();
                assert!(matches!(error, ReadError::Framing(_)), "{error}");
            }
            let endless = Wrong(Header { kind: 1, size: 4, length: u64::MAX });
            let waits = spawn(move || (other.read_message(&endless).map(drop), other));
            yield_now();
            waits.cancel("enough")?;
            let (result, other) = timeout(LONG, || waits.join())?;
            assert!(matches!(result, Err(ReadError::Io(_))), "{result:?}");
            // Without a header, and of nothing: there is nothing to write.
            one.write_message(&Wrong(Header { kind: 1, size: 0, length: 0 }), &Message::default())?;
            let framing = Wrong(Header { kind: 1, size: 1, length: 3 });
            assert_eq!(other.read_message(&framing)?, Some(Message::new(1_u8, "our")));
            Ok(())
        });
    });
}

#[test]
fn a_message_moves_with_its_stream() {
    both(|| {
        with_pair(|client, server| {
            client.write_all(b"Q\0\0\0\x08ha")?;
            assert!(timeout(SHORT, || server.read_message(&POSTGRES)).is_err());
            let server = server.detach()?.attach()?;
            client.write_all(b"lf")?;
            assert_eq!(server.read_message(&POSTGRES)?, Some(Message::new('Q', "half")));
            let (a, b) = pair()?;
            a.write_message(&POSTGRES, &message(5, 5))?;
            let by_reference = &b;
            assert_eq!(by_reference.read_message(&POSTGRES)?, Some(message(5, 5)));
            Ok(())
        });
    });
}
