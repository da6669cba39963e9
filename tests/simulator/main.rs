//! The simulator itself: what a world promises, tried on programs on the bare kernel.

mod blocked;
mod calls;
#[path = "../tls/certificates.rs"]
mod certificates;
mod datagrams;
mod disk;
mod faults;
mod library;
mod mark;
mod names;
mod network;
mod oracle;
mod preempt;
mod raw;
mod regression;
mod relay;
mod replay;

mod report;
mod resolver;
mod signals;
mod storage;
mod strategy;
mod threads;
mod time;
mod tls;
mod transfer;
