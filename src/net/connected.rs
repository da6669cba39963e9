//! What a layer above a connected stream (TLS) is made on: its descriptor, its unread bytes, and its way to another machine.
//!
//! Sealed: the streams of this crate are connected, and nothing else is. The layer does its own system calls, by the turns of
//! the descriptor's directions, so that they wait, and end, as the stream's own do.

use std::fmt;
use std::io;

use super::descriptor::Descriptor;
use super::{DetachedTcpStream, TcpStream};
use crate::io::Buffer;

/// A connected stream of bytes, on which TLS can be attached: [`TcpStream`].
pub trait Connected: sealed::Stream {}

impl Connected for TcpStream {}

pub(crate) mod sealed {
    use super::{Buffer, Descriptor, fmt, io};

    /// What `Connected` keeps to this crate.
    pub trait Stream: fmt::Debug + Sized {
        /// The stream outside of any machine.
        type Detached: fmt::Debug + Send;

        fn descriptor(&self) -> &Descriptor;

        /// Moves to `target` what an earlier call has read and left. What the machine has read ahead stays where it is.
        fn move_front(&self, target: &mut Buffer);

        fn detach(self) -> io::Result<Self::Detached>;

        /// After an error it is still detached.
        fn attach(detached: Self::Detached) -> Result<Self, (Self::Detached, io::Error)>;
    }
}

impl sealed::Stream for TcpStream {
    type Detached = DetachedTcpStream;

    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn move_front(&self, target: &mut Buffer) {
        self.front.borrow_mut().move_to(target);
    }

    fn detach(self) -> io::Result<DetachedTcpStream> {
        TcpStream::detach(self)
    }

    fn attach(detached: DetachedTcpStream) -> Result<TcpStream, (DetachedTcpStream, io::Error)> {
        detached.attach().map_err(|error| (error.stream, error.source))
    }
}
