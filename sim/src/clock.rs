//! The clocks of a host, as functions of the world's time.
//!
//! | clock | shows |
//! |---|---|
//! | monotonic | time since the boot of the host, which was before the world began, at the host's own rate |
//! | real time | the same, from the wall-clock time at boot, with a skew of its own |
//!
//! The wall clock may jump, by the script or by [`Fault::ClockJump`](crate::fault::Fault::ClockJump). The rate differs from the world's by a drift of some parts per million. Timeouts are measured by the host's
//! monotonic clock and are never early on it.

use std::time::Duration;

use machinarium::kernel::{Clock, Instant};

use crate::choice::{Choices, Stream, Subsystem};

/// What the monotonic clock of a host without skew shows when the world begins.
const UPTIME: u64 = 1_000_000_000;
/// 2026-01-01 00:00:00 UTC, when every world begins.
const EPOCH: u64 = 1_767_225_600_000_000_000;
const MILLION: u64 = 1_000_000;

/// The clocks of one host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// Monotonic time at the world's zero.
    boot: u64,
    /// Real time at the world's zero.
    wall: u64,
    /// Parts per million that this host's clocks are fast (or slow).
    drift: i32,
}

impl Clocks {
    /// Clocks that agree with the world's.
    pub(crate) const fn exact() -> Clocks {
        Clocks { boot: UPTIME, wall: EPOCH, drift: 0 }
    }

    /// Clocks with a drawn uptime, a skew of at most two seconds and a drift of at most 200 parts per million.
    pub(crate) fn skewed(choices: &mut Choices, host: u64) -> Clocks {
        let stream = Stream::new(Subsystem::Clock, host);
        let uptime = choices.draw(stream, "uptime", 1_000) * 1_000_000_000;
        let skew = choices.draw(stream, "skew", 4_001_000_000);
        let drift = choices.draw(stream, "drift", 401) as i32;
        // 0, 1, -1, 2, -2, ...: near the boring answer is little.
        let signed = |n: u64| if n.is_multiple_of(2) { (n / 2) as i64 } else { -(n.div_ceil(2) as i64) };
        Clocks {
            boot: UPTIME + uptime,
            wall: EPOCH.saturating_add_signed(signed(skew)),
            drift: signed(drift as u64) as i32,
        }
    }

    /// The wall clock jumps, not further back than to 1970.
    pub(crate) fn jump(&mut self, forward: bool, length: Duration) {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        self.wall = if forward { self.wall.saturating_add(nanos) } else { self.wall.saturating_sub(nanos) };
    }

    /// What `clock` shows when the world's time is `now`.
    pub(crate) fn read(&self, clock: Clock, now: u64) -> Instant {
        let base = match clock {
            Clock::Monotonic => self.boot,
            Clock::Realtime => self.wall,
        };
        Instant::from_nanos(base.saturating_add(self.elapsed(now)))
    }

    /// The world's time at which a timeout that starts `now` is over; `u64::MAX` for never.
    pub(crate) fn deadline(&self, now: u64, timeout: Option<Duration>) -> u64 {
        let Some(timeout) = timeout else { return u64::MAX };
        let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let target = self.elapsed(now).saturating_add(nanos);
        if self.drift == 0 || nanos == 0 {
            return now.saturating_add(nanos);
        }
        // target * MILLION / rate, rounded up. Whole multiples of the rate apart, nothing leaves 64 bits: a division of 128 is slow.
        let rate = MILLION.saturating_add_signed(self.drift.into());
        let (whole, rest) = (target / rate, target % rate);
        whole.saturating_mul(MILLION).saturating_add((rest * MILLION).div_ceil(rate)).max(now)
    }

    fn elapsed(&self, now: u64) -> u64 {
        // Every look at a clock comes by here, and most worlds have no drift.
        if self.drift == 0 {
            return now;
        }
        // now + now * drift / MILLION, rounded down; by parts, as in `deadline`.
        let (whole, rest) = ((now / MILLION) as i64, (now % MILLION) as i64);
        let drift = i64::from(self.drift);
        now.saturating_add_signed(whole * drift + (rest * drift).div_euclid(MILLION as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_never_early_on_its_own_clock() {
        for drift in [-200, -1, 0, 1, 200] {
            let clocks = Clocks { drift, ..Clocks::exact() };
            for now in [0, 1, 999_999, 123_456_789_012] {
                for timeout in [1, 999, 1_000_000, 7_777_777_777] {
                    let start = clocks.read(Clock::Monotonic, now);
                    let end = clocks.deadline(now, Some(Duration::from_nanos(timeout)));
                    assert!(clocks.read(Clock::Monotonic, end) - start >= Duration::from_nanos(timeout));
                }
            }
        }
    }

    #[test]
    fn by_parts_it_is_what_it_is_in_one() {
        let million = i128::from(MILLION);
        for drift in [-200, -199, -1, 0, 1, 77, 200] {
            let clocks = Clocks { drift, ..Clocks::exact() };
            let rate = million + i128::from(drift);
            for now in [0, 1, 4_999, 999_999, 1_000_000, 123_456_789_012, u64::MAX / 3, u64::MAX - 1] {
                let whole = i128::from(now) * rate / million;
                assert_eq!(clocks.elapsed(now), u64::try_from(whole).unwrap_or(u64::MAX), "{drift} {now}");
                let target = i128::from(clocks.elapsed(now).saturating_add(5));
                let end = u64::try_from((target * million + rate - 1) / rate).unwrap_or(u64::MAX).max(now);
                let expected = if drift == 0 { now.saturating_add(5) } else { end };
                assert_eq!(clocks.deadline(now, Some(Duration::from_nanos(5))), expected, "{drift} {now}");
            }
        }
    }

    #[test]
    fn no_timeout_is_never() {
        assert_eq!(Clocks::exact().deadline(5, None), u64::MAX);
        assert_eq!(Clocks::exact().deadline(5, Some(Duration::MAX)), u64::MAX);
    }
}
