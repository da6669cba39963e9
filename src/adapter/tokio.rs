//! `AsyncRead` and `AsyncWrite` of tokio. What needs tokio's runtime (its timers, its sockets, `tokio::spawn`) does not run here; what needs
//! its traits alone, as tokio-postgres by `connect_raw`, does.
//!
//! The streams' own methods have the same names as those of `AsyncReadExt` and `AsyncWriteExt`, and come first where the type is known.
//!
//! ```
//! use machinarium::net::UnixStream;
//! use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
//!
//! async fn greet(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<String> {
//!     stream.write_all(b"hello").await?;
//!     stream.shutdown().await?;
//!     let mut answer = String::new();
//!     stream.read_to_string(&mut answer).await?;
//!     Ok(answer)
//! }
//!
//! let result: std::io::Result<()> = machinarium::run(|| {
//!     let (ours, theirs) = UnixStream::pair()?;
//!     machinarium::spawn(move || std::io::copy(&mut &theirs, &mut &theirs)); // an echo
//!     assert_eq!(machinarium::block_on(greet(ours))??, "hello");
//!     Ok(())
//! });
//! result.unwrap();
//! ```

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Streams;
use crate::net::Duplex;

for_every_stream!(AsyncRead {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let count = ready!(Duplex::poll_read(self.stream()?, context, buf.initialize_unfilled()))?;
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
});

for_every_stream!(AsyncWrite {
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
