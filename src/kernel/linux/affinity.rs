//! Which processors a thread runs on: the mask, to and from the kernel.
//!
//! Owns nothing. A thread that is bound when it is spawned is bound before its main function runs; a processor that is not
//! there leaves it unbound.

use std::mem;

use super::failed;
use crate::kernel::{Call, CpuSet, Result};

pub(super) fn get() -> CpuSet {
    let mut cpus = CpuSet::EMPTY;
    let mask = cpus.words_mut();
    // SAFETY: the kernel writes at most the size given, which is that of `mask`.
    let answer = unsafe { libc::sched_getaffinity(0, mem::size_of_val(mask), mask.as_mut_ptr().cast()) };
    // It cannot fail for the calling thread with a mask of that size. A sandbox that refuses it has one processor.
    if answer == 0 && !cpus.is_empty() { cpus } else { CpuSet::EMPTY.with(0) }
}

pub(super) fn set(call: Call, cpus: &CpuSet) -> Result<()> {
    let mask = cpus.words();
    // SAFETY: the kernel reads at most the size given, which is that of `mask`.
    match unsafe { libc::sched_setaffinity(0, mem::size_of_val(mask), mask.as_ptr().cast()) } {
        0 => Ok(()),
        _ => Err(failed(call)),
    }
}
