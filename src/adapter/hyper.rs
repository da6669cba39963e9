//! hyper 1 on machines: every stream is its `rt::Read` and `rt::Write`, an [`Executor`] gives each of its tasks a coroutine, and a [`Timer`]
//! has the machine's time.
//!
//! A request of HTTP/1 is handled on the coroutine that polls the connection; HTTP/2 has a task, and so a coroutine, for each. Either may
//! call whatever parks.
//!
//! ```
//! use http_body_util::{BodyExt, Empty, Full};
//! use hyper::body::{Bytes, Incoming};
//! use hyper::service::service_fn;
//! use hyper::{Request, Response, client, server};
//! use machinarium::adapter::hyper::Timer;
//! use machinarium::net::UnixStream;
//! use machinarium::{block_on, spawn};
//! use std::convert::Infallible;
//!
//! async fn greet(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
//!     Ok(Response::new(Full::from("hello")))
//! }
//!
//! let result: std::io::Result<()> = machinarium::run(|| {
//!     let (ours, theirs) = UnixStream::pair()?;
//!     let mut server = server::conn::http1::Builder::new();
//!     server.timer(Timer::new());
//!     let serving = spawn(move || block_on(server.serve_connection(theirs, service_fn(greet))));
//!     let body = block_on(async {
//!         let (mut requests, connection) = client::conn::http1::handshake(ours).await?;
//!         spawn(|| block_on(connection));
//!         let answer = requests.send_request(Request::new(Empty::<Bytes>::new())).await?;
//!         answer.into_body().collect().await
//!     })?;
//!     assert_eq!(body.unwrap().to_bytes(), "hello");
//!     serving.join()?.unwrap().unwrap();
//!     Ok(())
//! });
//! result.unwrap();
//! ```

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};

use super::Streams;
use crate::future::{Sleep, block_on, sleep, sleep_until};
use crate::kernel::Instant;
use crate::machine::try_spawn;
use crate::net::{Duplex, poll_show};
use crate::time::now;

for_every_stream!(Read {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<Result<()>> {
        poll_show(self.stream()?, context, |bytes| {
            let count = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..count]);
            count
        })
    }
});

for_every_stream!(Write {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        Duplex::poll_write(self.stream()?, context, buf)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Duplex::poll_write_vectored(self.stream()?, context, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Duplex::poll_flush(self.stream()?, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Duplex::poll_close(self.stream()?, context)
    }
});

/// Runs each task of hyper's in a coroutine of the machine that asks for it. Where none can be started, the task is dropped, which hyper
/// answers to the peer as it does a task that was given up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Executor;

impl<F: Future + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, task: F) {
        // Nobody joins it. What it comes to is hyper's own affair; that its machine ends first is nobody's.
        let run = move || drop(block_on(task));
        drop(try_spawn("hyper", run));
    }
}

/// The machine's time. hyper speaks of std's instants: those of this timer are as far from one another as the machine's are, so that in a
/// simulation they are virtual.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::disallowed_types, reason = "in hyper's interface")]
pub struct Timer {
    theirs: std::time::Instant,
    ours: Instant,
}

#[allow(clippy::disallowed_types, reason = "in hyper's interface")]
impl Timer {
    /// A timer.
    pub fn new() -> Timer {
        Timer { theirs: std::time::Instant::now(), ours: now() }
    }

    fn ours(&self, at: std::time::Instant) -> Instant {
        self.ours + at.saturating_duration_since(self.theirs)
    }
}

impl Default for Timer {
    fn default() -> Timer {
        Timer::new()
    }
}

#[allow(clippy::disallowed_types, reason = "in hyper's interface")]
impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Nap(sleep(duration)))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Nap(sleep_until(self.ours(deadline))))
    }

    fn now(&self) -> std::time::Instant {
        self.theirs + (now() - self.ours)
    }
}

/// A sleep as hyper has it, which knows of no errors.
struct Nap(Sleep);

impl Future for Nap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Outside a machine time is over: nothing that it could be for goes on there.
        let _ = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(())
    }
}

impl hyper::rt::Sleep for Nap {}
