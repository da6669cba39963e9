//! What the example programs share: their command lines' common part, and what their hunts are made of. Each program
//! includes this folder by path.

#![allow(dead_code, reason = "not every program uses all of it")]

pub(crate) mod cli;
pub(crate) mod hunt;
pub(crate) mod init;
pub(crate) mod place;
pub(crate) mod random;
pub(crate) mod service;
