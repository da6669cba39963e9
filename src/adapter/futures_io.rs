//! `AsyncRead` and `AsyncWrite` of futures-io, which smol and async-std speak.
//!
//! The streams' own methods have the same names as those of `AsyncReadExt` and `AsyncWriteExt`, and come first where the type is known.
//!
//! ```
//! use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
//! use machinarium::net::UnixStream;
//!
//! async fn greet(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<String> {
//!     stream.write_all(b"hello").await?;
//!     stream.close().await?;
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
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use super::Streams;
use crate::net::Duplex;

for_every_stream!(AsyncRead {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize>> {
        Duplex::poll_read(self.stream()?, context, buf)
    }
});

for_every_stream!(AsyncWrite {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        Duplex::poll_write(self.stream()?, context, buf)
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

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Duplex::poll_close(self.stream()?, context)
    }
});
