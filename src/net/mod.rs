//! Sockets as users see them, with std's names.

mod descriptor;
mod detached;
mod listener;
mod option;
mod tcp;

pub use detached::{AttachError, DetachedTcpStream};
pub use listener::{ListenerBuilder, TcpListener};
pub use tcp::{TcpStream, WriteError};
