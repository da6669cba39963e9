//! Unix datagrams: whole, in order, by names; and a full receiver holds its senders up without losing any.

use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::{both, both_with_kernel};
use machinarium::kernel::UnixName;
use machinarium::net::UnixDatagram;
use machinarium::{cancelled, run, select, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

fn in_machine(body: impl FnOnce() -> io::Result<()>) {
    run(|| timeout(LONG, body)).unwrap();
}

fn name(what: &str) -> UnixName {
    UnixName::abstract_name(format!("machinarium-{}-dgram-{what}", std::process::id()).as_bytes()).unwrap()
}

#[test]
fn a_pair_exchanges_datagrams_whole_and_in_order() {
    both(|| {
        in_machine(|| {
            let (ours, theirs) = UnixDatagram::pair()?;
            for length in [5, 0, 3] {
                assert_eq!(ours.send(&vec![length as u8; length])?, length);
            }
            let mut buffer = [0; 4];
            assert_eq!((theirs.peek(&mut buffer)?, buffer), (4, [5; 4]));
            assert_eq!(theirs.recv(&mut buffer)?, 4, "what does not fit is lost");
            assert_eq!(theirs.recv(&mut buffer)?, 0);
            select! { readable(theirs) => (), }?;
            let (count, from) = theirs.recv_from(&mut buffer)?;
            assert!(count == 3 && from.is_unnamed());
            Ok(())
        });
    });
}

#[test]
fn names_say_who_sent_and_whom_to_answer() {
    both(|| {
        in_machine(|| {
            let server = UnixDatagram::bind_addr(&name("server"))?;
            let client = UnixDatagram::bind_addr(&name("client"))?;
            assert_eq!(UnixDatagram::bind_addr(&name("client")).unwrap_err().kind(), ErrorKind::AddrInUse);
            client.send_to_addr(b"question", &server.local_addr()?)?;
            let mut buffer = [0; 16];
            let (count, from) = server.recv_from(&mut buffer)?;
            assert_eq!((&buffer[..count], from), (&b"question"[..], name("client")));
            let unbound = UnixDatagram::unbound()?;
            assert_eq!(unbound.send(b"to whom?").unwrap_err().kind(), ErrorKind::NotConnected);
            unbound.connect_addr(&name("server"))?;
            assert_eq!(unbound.peer_addr()?, name("server"));
            unbound.send(b"hello")?;
            assert_eq!(server.recv(&mut buffer)?, 5);
            drop(server);
            assert_eq!(unbound.send(b"gone?").unwrap_err().kind(), ErrorKind::ConnectionRefused);
            Ok(())
        });
    });
}

#[test]
fn a_path_is_a_name_too() {
    both_with_kernel(|kernel| {
        let path = std::env::temp_dir().join(format!("machinarium-{}-dgram", std::process::id()));
        let text = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let _ = kernel.unlink(&text);
        in_machine(|| {
            let ours = UnixDatagram::unbound()?;
            assert_eq!(ours.send_to(b"x", &path).unwrap_err().kind(), ErrorKind::NotFound);
            let theirs = UnixDatagram::bind(&path)?;
            ours.send_to(b"x", &path)?;
            ours.connect(&path)?;
            ours.send(b"yz")?;
            let mut buffer = [0; 4];
            assert_eq!((theirs.recv(&mut buffer)?, theirs.recv(&mut buffer)?), (1, 2));
            assert_eq!(UnixDatagram::bind("").unwrap_err().kind(), ErrorKind::InvalidInput);
            Ok(())
        });
        let _ = kernel.unlink(&text);
    });
}

#[test]
fn a_full_receiver_makes_senders_wait_and_loses_nothing() {
    both(|| {
        in_machine(|| {
            let theirs = UnixDatagram::bind_addr(&name("full"))?;
            let (peer, stranger) = (UnixDatagram::unbound()?, UnixDatagram::unbound()?);
            peer.connect_addr(&name("full"))?;
            peer.set_write_timeout(Some(SHORT))?;
            let mut sent = 0u32;
            while peer.send(&sent.to_le_bytes()).is_ok() {
                sent += 1;
                assert!(sent < 1_000_000, "it is never full");
            }
            stranger.set_write_timeout(Some(SHORT))?;
            let late = stranger.send_to_addr(&sent.to_le_bytes(), &name("full")).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            peer.set_write_timeout(None)?;
            stranger.set_write_timeout(None)?;
            let first = spawn(move || peer.send(&sent.to_le_bytes()));
            let second = spawn(move || stranger.send_to_addr(&sent.to_le_bytes(), &name("full")));
            yield_now();
            let mut got = [0; 4];
            for expected in (0..=sent).chain([sent]) {
                assert_eq!(theirs.recv(&mut got)?, 4);
                assert_eq!(u32::from_le_bytes(got), expected);
            }
            assert_eq!((first.join()??, second.join()??), (4, 4));
            Ok(())
        });
    });
}

#[test]
fn a_receive_gives_up_and_takes_nothing() {
    both(|| {
        in_machine(|| {
            let (ours, theirs) = UnixDatagram::pair()?;
            ours.set_read_timeout(Some(SHORT))?;
            assert_eq!(ours.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
            ours.set_read_timeout(None)?;
            let reader = spawn(move || {
                let error = ours.recv(&mut [0; 8]).unwrap_err();
                assert!(cancelled(&error).is_some());
                machinarium::shield(|| ours.recv(&mut [0; 8]))
            });
            yield_now();
            reader.cancel("enough")?;
            theirs.send(b"later")?;
            assert_eq!(reader.join()??, 5);
            Ok(())
        });
    });
}
