//! The simulator itself: what a world promises, tried on programs on the bare kernel.

mod blocked;
mod bubble;
mod calls;
#[path = "../tls/certificates.rs"]
mod certificates;
mod crowd;
mod datagrams;
mod disk;
mod explain;
mod faults;
mod history;
mod library;
mod mark;
mod meeting;
mod names;
mod network;
mod oracle;
mod picture;
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
mod verdict;
