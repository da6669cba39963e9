//! Events that are rare: drawn once for many calls, so that a record is short and has nothing but zeros where nothing happens.

use crate::choice::{Choices, Stream};

/// A rare event: it draws how far the next occurrence is, not at every call whether this is one.
///
/// The boring answer is that the next `2 * mean` calls have none.
#[derive(Clone, Debug)]
pub(crate) struct Rare {
    stream: Stream,
    site: &'static str,
    mean: u64,
    /// Calls until the next decision; 0: not drawn yet.
    left: u64,
    /// Whether that decision is an occurrence, or only a new draw.
    occurs: bool,
}

impl Rare {
    /// Something that happens once in `mean` calls; never if `mean` is 0.
    pub(crate) const fn new(stream: Stream, site: &'static str, mean: u64) -> Rare {
        Rare { stream, site, mean, left: 0, occurs: false }
    }

    /// From now on it happens once in `mean` calls.
    pub(crate) fn set_mean(&mut self, mean: u64) {
        *self = Rare::new(self.stream, self.site, mean);
    }

    /// Whether it happens at this call.
    pub(crate) fn hit(&mut self, choices: &mut Choices) -> bool {
        if self.mean == 0 {
            return false;
        }
        if self.left == 0 {
            self.aim(choices);
        }
        self.left -= 1;
        self.left == 0 && self.occurs
    }

    fn aim(&mut self, choices: &mut Choices) {
        let reach = self.mean.saturating_mul(2);
        let distance = choices.draw(self.stream, self.site, reach);
        self.occurs = distance != 0;
        // An interesting draw near the boring one is a late occurrence: shrinking moves it away from the start.
        self.left = reach - distance;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::Subsystem;

    #[test]
    fn a_rare_event_comes_about_as_often_as_it_says() {
        let mut choices = Choices::new(3);
        let mut rare = Rare::new(Stream::new(Subsystem::Cpu, 1), "rare", 50);
        let hits = (0..100_000).filter(|_| rare.hit(&mut choices)).count();
        assert!((1_700..2_300).contains(&hits), "{hits}");
    }
}
