//! Sockets as users see them, with std's names.

mod ahead;
mod bytes;
mod descriptor;
mod detached;
mod direction;
mod listener;
mod option;
mod tcp;

pub use bytes::WriteError;
pub use detached::{AttachError, DetachedTcpStream};
pub use listener::{ListenerBuilder, TcpListener};
pub use tcp::TcpStream;
