//! Unix streams: as TCP, within a host, by paths and abstract names.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use crate::{both, both_with_kernel};
use machinarium::kernel::{Kernel, UnixName};
use machinarium::net::{UnixListener, UnixStream};
use machinarium::{machine, run, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(1);

/// A path that no other test uses; what an earlier run has left there is removed.
fn path(kernel: &dyn Kernel, name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("machinarium-{}-{name}", std::process::id()));
    unlink(kernel, &path);
    path
}

fn unlink(kernel: &dyn Kernel, path: &std::path::Path) {
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    let _ = kernel.unlink(&std::ffi::CString::new(bytes).unwrap());
}

#[test]
fn a_pair_carries_bytes_both_ways_and_ends() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let (mut ours, mut theirs) = UnixStream::pair()?;
            let echo = spawn(move || {
                let mut all = Vec::new();
                theirs.read_to_end(&mut all)?;
                theirs.write_all(&all).map(|()| all.len()).map_err(io::Error::from)
            });
            let sent: Vec<u8> = (0..60_000_u32).map(|number| number as u8).collect();
            ours.write_all(&sent)?;
            ours.shutdown(std::net::Shutdown::Write)?;
            let mut back = Vec::new();
            ours.read_to_end(&mut back)?;
            assert_eq!(echo.join()??, sent.len());
            assert!(back == sent);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_listener_at_a_path_is_connected_to() {
    both_with_kernel(|kernel| {
        let path = path(kernel, "path");
        let result: io::Result<()> = run(|| {
            let listener = UnixListener::bind(&path)?;
            assert_eq!(listener.local_addr()?.to_string(), path.to_str().unwrap());
            assert_eq!(UnixListener::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            let client = UnixStream::connect(&path)?;
            let (server, peer) = listener.accept()?;
            assert!(peer.is_unnamed());
            assert_eq!(client.peer_addr()?, listener.local_addr()?);
            client.write_all(b"hello\n")?;
            let mut line = Vec::new();
            server.read_until(b'\n', &mut line)?;
            assert_eq!(line, b"hello\n");
            assert!(server.peer_cred()?.is_some());
            drop(listener);
            let refused = UnixStream::connect(&path).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            Ok(())
        });
        result.unwrap();
        unlink(kernel, &path);
        let gone: io::Result<()> = run(|| UnixStream::connect(&path).map(drop));
        assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn an_abstract_name_goes_with_its_listener() {
    both(|| {
        let name = format!("machinarium-{}-abstract", std::process::id());
        let name = UnixName::abstract_name(name.as_bytes()).unwrap();
        let result: io::Result<()> = run(|| {
            let listener = UnixListener::bind_addr(&name)?;
            let client = UnixStream::connect_addr(&name)?;
            drop(listener.accept()?);
            assert_eq!(client.peer_addr()?, name);
            drop(listener);
            assert!(UnixStream::connect_addr(&name).is_err());
            drop(UnixListener::bind_addr(&name)?);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn what_is_no_path_of_a_socket_is_refused() {
    both(|| {
        let result: io::Result<()> = run(|| {
            for path in ["", "a\0b", &"long/".repeat(30)] {
                assert_eq!(UnixListener::bind(path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
                assert_eq!(UnixStream::connect(path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            }
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn reads_and_accepts_give_up_at_their_deadlines_and_cancellations() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let name = format!("machinarium-{}-giving-up", std::process::id());
            let listener = UnixListener::bind_addr(&UnixName::abstract_name(name.as_bytes()).unwrap())?;
            let late = timeout(SHORT, || listener.accept()).unwrap_err();
            assert_eq!(late.kind(), io::ErrorKind::TimedOut);
            let (ours, mut theirs) = UnixStream::pair()?;
            theirs.set_read_timeout(Some(SHORT))?;
            assert_eq!(theirs.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::TimedOut);
            theirs.set_read_timeout(None)?;
            let reader = spawn(move || theirs.read(&mut [0; 8]));
            yield_now();
            reader.cancel("enough")?;
            assert!(machinarium::cancelled(&reader.join()?.unwrap_err()).is_some());
            drop(ours);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_stream_moves_to_another_machine_with_what_was_read() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let (ours, theirs) = UnixStream::pair()?;
            ours.write_all(b"one\ntwo\n")?;
            let mut line = Vec::new();
            theirs.read_until(b'\n', &mut line)?;
            let moving = theirs.detach()?;
            let there = machine::spawn("there", move || -> io::Result<Vec<u8>> {
                let stream = moving.attach()?;
                let mut line = Vec::new();
                stream.read_until(b'\n', &mut line)?;
                Ok(line)
            })?;
            assert_eq!((line, there.join()??), (b"one\n".to_vec(), b"two\n".to_vec()));
            Ok(())
        });
        result.unwrap();
    });
}
