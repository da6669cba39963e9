//! Sockets as users see them, with std's names.

mod ahead;
mod behind;
mod bytes;
#[allow(private_interfaces, reason = "sealed: nobody outside can name what these methods speak of")]
mod connected;
mod descriptor;
mod detached;
mod direction;
mod listener;
mod option;
mod tcp;

pub use bytes::WriteError;
pub use connected::Connected;
pub use detached::{AttachError, DetachedTcpStream};
pub use listener::{ListenerBuilder, TcpListener};
pub use tcp::TcpStream;

pub(crate) use descriptor::Socket;
pub(crate) use direction::Turn;
