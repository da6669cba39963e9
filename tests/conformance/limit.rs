//! `RLIMIT_NOFILE` of this program.

/// The soft limit.
pub(crate) fn get() -> u64 {
    read().rlim_cur
}

/// Sets the soft limit: numbers below it may be used.
pub(crate) fn set(count: u64) {
    let limit = libc::rlimit { rlim_cur: count, ..read() };
    // SAFETY: `limit` is a rlimit of ours, which the call reads.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

fn read() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a rlimit of ours, which the call writes.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit
}
