//! Which seeds a machine of a fleet takes, so that none is run twice.
//!
//! | told | takes, of N seeds from the first |
//! |---|---|
//! | `I/N`, or a Slurm array | every N-th, beginning with the I-th |
//! | `I`, or a Kubernetes Indexed Job, which says no more | the I-th N: as many as there are machines, each its own |

use std::env;
use std::fmt;
use std::str::FromStr;

/// A part of a fleet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    /// Its number, from 0.
    index: u64,
    /// How many there are, if that is known.
    of: Option<u64>,
}

/// The seeds of one machine: `first`, `first + step` and so on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seeds {
    pub(super) first: u64,
    pub(super) step: u64,
    pub(super) count: u64,
}

/// How many seeds lie between machines whose number nobody knows, and whose hunts end by time.
const APART: u64 = 1 << 40;

impl Shard {
    /// What the environment says: `JOB_COMPLETION_INDEX`, or `SLURM_ARRAY_TASK_ID` with what belongs to it.
    pub(super) fn of_environment() -> Option<Shard> {
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        Shard::of_variables(&number)
    }

    fn of_variables(number: &dyn Fn(&str) -> Option<u64>) -> Option<Shard> {
        if let Some(index) = number("JOB_COMPLETION_INDEX") {
            return Some(Shard { index, of: None });
        }
        let task = number("SLURM_ARRAY_TASK_ID")?;
        let [least, most] = ["SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX"].map(number);
        let count = number("SLURM_ARRAY_TASK_COUNT");
        // An array with holes has numbers that are no places among its tasks: each is its own.
        let place = least.and_then(|least| task.checked_sub(least));
        let dense =
            least.zip(most).zip(count).is_some_and(|((least, most), count)| most - least + 1 == count);
        match place.filter(|_| dense) {
            Some(index) => Some(Shard { index, of: count }),
            None => Some(Shard { index: task, of: None }),
        }
    }

    /// Of `count` seeds from `first`; `None`: as many as time allows.
    pub(super) fn seeds(self, first: u64, count: Option<u64>) -> Seeds {
        let Shard { index, of } = self;
        match (of, count) {
            (Some(of), Some(count)) => {
                let own = count / of + u64::from(index < count % of);
                Seeds { first: first.wrapping_add(index), step: of, count: own }
            }
            (Some(of), None) => Seeds { first: first.wrapping_add(index), step: of, count: u64::MAX / of },
            (None, Some(count)) => {
                Seeds { first: first.wrapping_add(index.wrapping_mul(count)), step: 1, count }
            }
            (None, None) => {
                Seeds { first: first.wrapping_add(index.wrapping_mul(APART)), step: 1, count: APART }
            }
        }
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let wrong = || format!("{text} is no part of a fleet: 0/4 to 3/4 are, or 7");
        let (index, of) = match text.split_once('/') {
            Some((index, of)) => (index, Some(of.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let index = index.parse().map_err(|_| wrong())?;
        if of.is_some_and(|of| index >= of) { Err(wrong()) } else { Ok(Shard { index, of }) }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            Some(of) => write!(f, "{}/{of}", self.index),
            None => write!(f, "{}", self.index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn shards_share_all_seeds_and_none_twice() {
        let mut seen = BTreeSet::new();
        for index in 0..4 {
            let shard: Shard = format!("{index}/4").parse().unwrap();
            let Seeds { first, step, count } = shard.seeds(1, Some(10));
            assert!((0..count).all(|place| seen.insert(first + place * step)), "{shard}");
        }
        assert_eq!(seen, (1..=10).collect());
        let own = |index| Shard { index, of: None }.seeds(1, Some(10));
        assert_eq!((own(0).first, own(1).first, own(2).count), (1, 11, 10));
        assert!(["4/4", "x", "1/", ""].iter().all(|text| text.parse::<Shard>().is_err()));
    }

    #[test]
    fn fleets_say_who_one_is() {
        let shard = |variables: &[(&str, u64)]| {
            Shard::of_variables(&|name| variables.iter().find(|(other, _)| *other == name).map(|(_, n)| *n))
        };
        assert_eq!(shard(&[]), None);
        assert_eq!(shard(&[("JOB_COMPLETION_INDEX", 3)]), Some(Shard { index: 3, of: None }));
        let mut slurm = [
            ("SLURM_ARRAY_TASK_ID", 12),
            ("SLURM_ARRAY_TASK_MIN", 10),
            ("SLURM_ARRAY_TASK_MAX", 13),
            ("SLURM_ARRAY_TASK_COUNT", 4),
        ];
        assert_eq!(shard(&slurm), Some(Shard { index: 2, of: Some(4) }));
        slurm[3].1 = 2;
        assert_eq!(shard(&slurm), Some(Shard { index: 12, of: None }), "an array with holes");
    }
}
