//! Bytes without sockets: buffers and the pool they come from.

mod buffer;

pub(crate) use buffer::{Buffer, POOL};
