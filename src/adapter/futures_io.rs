//! `AsyncRead` and `AsyncWrite` of futures-io, which smol and async-std speak.
//!
//! ```
//! use futures_util::{AsyncReadExt, AsyncWriteExt};
//! use machinarium::net::UnixStream;
//!
//! let result: std::io::Result<()> = machinarium::run(|| {
//!     let (mut ours, mut theirs) = UnixStream::pair()?;
//!     machinarium::block_on(async {
//!         ours.write_all(b"hello").await?;
//!         ours.close().await?;
//!         let mut word = String::new();
//!         theirs.read_to_string(&mut word).await?;
//!         assert_eq!(word, "hello");
//!         std::io::Result::Ok(())
//!     })?
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
