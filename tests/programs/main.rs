//! The example programs as processes: started as a user starts them, on ports of loopback that are free, and spoken to by
//! plain sockets of std. What they do under faults is for their hunts; that their hunts find a planted bug is seen here.
//!
//! `cargo test` has built the programs; alone, this test asks for `cargo build --examples` first.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the other side is no machine")]

#[path = "../tls/certificates.rs"]
#[allow(dead_code, reason = "the programs have the keys")]
mod certificates;
mod chat;
mod echo;
mod fetch;
mod gdb;
mod kv;
mod pgpool;
mod program;
mod proxy;
mod search;
mod top;
mod web;
