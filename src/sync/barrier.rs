//! A point that so many reach before any goes on.

use super::lines::Looking;
use crate::error::WaitError;
use crate::kernel::Instant;
use crate::machine::seat::Seat;
use crate::shared::lock::Lock;
use crate::shared::watch::Watched;

/// Holds those who come until there are `n`; then lets them go, and holds the next.
#[derive(Debug)]
pub struct Barrier {
    n: usize,
    round: Lock<Round>,
    /// The number of the round, for those who wait for the next.
    rounds: Watched<Seat>,
}

#[derive(Debug)]
struct Round {
    number: u64,
    arrived: usize,
}

/// Whether this was the one who completed the round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// True for one of each round.
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl Barrier {
    /// A barrier for `n`; 0 is as 1: nobody waits.
    pub fn new(n: usize) -> Barrier {
        Barrier { n: n.max(1), round: Lock::new(Round { number: 0, arrived: 0 }), rounds: Watched::new(0) }
    }

    /// Waits until `n` have come, this one among them.
    ///
    /// # Errors
    /// If the wait is ended by a deadline or a cancellation before the round is complete: then this one has not come.
    pub fn wait(&self) -> Result<BarrierWaitResult, WaitError> {
        let (number, complete) = self.round.with(|round| round.arrive(self.n));
        if complete {
            let _ = self.rounds.update(|rounds| Some(rounds.max(number + 1)));
            self.rounds.notify_all();
            return Ok(BarrierWaitResult(true));
        }
        while self.rounds.get() <= number {
            let mut looking = Looking::new(&self.rounds, number);
            let waited = looking.block("barrier", Instant::FAR);
            looking.keep();
            if let Err(error) = waited
                && self.round.with(|round| round.go_away(number))
            {
                return Err(error);
            }
        }
        Ok(BarrierWaitResult(false))
    }
}

impl Round {
    /// The round's number, and whether this arrival completes it.
    fn arrive(&mut self, n: usize) -> (u64, bool) {
        let number = self.number;
        self.arrived += 1;
        let complete = self.arrived == n;
        if complete {
            *self = Round { number: number + 1, arrived: 0 };
        }
        (number, complete)
    }

    /// Takes an arrival back. False: the round is complete.
    fn go_away(&mut self, number: u64) -> bool {
        let open = self.number == number;
        self.arrived -= usize::from(open);
        open
    }
}
