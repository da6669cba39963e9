//! Descriptors that others own, waited for and left alone.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::both_with_kernel;
use machinarium::kernel::{Access, Errno, Fd, Kernel, OpenFlags, RecvFlags, SendFlags, SocketKind};
use machinarium::net::{Interest, wait_fd};
use machinarium::{machine, run, scope, sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

/// A descriptor as a C library would have it.
fn foreign(fd: Fd) -> BorrowedFd<'static> {
    // SAFETY: it is open for as long as its test uses it. (That of a world is a number that the system does not know, and is not asked for.)
    unsafe { BorrowedFd::borrow_raw(fd.raw()) }
}

fn with_pair(kernel: &dyn Kernel, body: impl FnOnce(Fd, Fd) -> io::Result<()>) {
    let (ours, theirs) = kernel.socketpair(SocketKind::Stream).unwrap();
    run(|| timeout(LONG, || body(ours, theirs))).unwrap();
    // Nobody has closed them.
    kernel.close(ours).unwrap();
    kernel.close(theirs).unwrap();
}

/// A call that may be interrupted.
fn again<T>(call: impl Fn() -> Result<T, Errno>) -> T {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            answer => return answer.unwrap(),
        }
    }
}

fn say(kernel: &dyn Kernel, fd: Fd) {
    while kernel.send(fd, b"x", SendFlags::default()).is_err() {}
}

#[test]
fn it_is_waited_for_again_and_again() {
    both_with_kernel(|kernel| {
        with_pair(kernel, |ours, theirs| {
            for _ in 0..3 {
                let ready = wait_fd(foreign(ours), Interest::Both)?;
                assert!(ready.writable && !ready.readable);
                assert!(timeout(SHORT, || wait_fd(foreign(ours), Interest::Readable)).is_err());
                scope(|scope| {
                    scope.spawn(|| {
                        sleep(SHORT).unwrap();
                        say(kernel, theirs);
                    });
                    assert!(wait_fd(foreign(ours), Interest::Readable)?.readable);
                    // It is so still.
                    assert!(wait_fd(foreign(ours), Interest::Readable)?.readable);
                    io::Result::Ok(())
                })?;
                while kernel.recv(ours, &mut [0; 8], RecvFlags::default()).is_err() {}
            }
            Ok(())
        });
    });
}

#[test]
fn two_do_not_wait_for_one() {
    both_with_kernel(|kernel| {
        with_pair(kernel, |ours, _| {
            let waits = spawn(move || wait_fd(foreign(ours), Interest::Readable));
            yield_now();
            let second = wait_fd(foreign(ours), Interest::Readable).unwrap_err();
            assert_eq!(second.kind(), io::ErrorKind::AlreadyExists);
            waits.cancel("enough")?;
            assert!(waits.join()?.is_err());
            assert!(wait_fd(foreign(ours), Interest::Writable)?.writable);
            // On another machine it is another one's.
            let other = machine::spawn("other", move || wait_fd(foreign(ours), Interest::Writable))?;
            assert!(other.join()??.writable);
            Ok(())
        });
    });
}

#[test]
fn a_file_cannot_be_waited_for() {
    both_with_kernel(|kernel| {
        let path =
            std::ffi::CString::new(format!("/tmp/machinarium-foreign-{}", std::process::id())).unwrap();
        let flags = OpenFlags { access: Access::ReadWrite, create: true, ..OpenFlags::default() };
        let file = again(|| kernel.openat(&path, flags));
        let result: io::Result<()> = run(|| {
            let refused = wait_fd(foreign(file), Interest::Readable).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
            Ok(())
        });
        result.unwrap();
        kernel.close(file).unwrap();
        again(|| kernel.unlink(&path));
        let outside = wait_fd(foreign(Fd::from_raw(0)), Interest::Readable).unwrap_err();
        assert_eq!(outside.get_ref().unwrap().downcast_ref(), Some(&machinarium::Misuse::NoMachine));
    });
}
