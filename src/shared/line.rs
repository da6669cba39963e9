//! Those who wait for one thing, in the order in which they came, and what each has brought or been given.
//!
//! A place in a line is used by two: by its owner, who joins and, when his wait is over, leaves; and by those who serve the line,
//! from its head.
//!
//! | place | in the line | left by |
//! |---|---|---|
//! | waiting | yes | `serve` -> served, `skip` -> skipped, `leave` -> free |
//! | served | no: his wait was claimed for this line, and its effect is in the place | `leave` -> free |
//! | skipped | no: his wait was over when his turn came | `leave` -> free |
//!
//! The owner alone frees his place, so a key is never a stranger's, and what he brought is his until someone has claimed
//! his wait. A line is plain state: it lies inside a [`Lock`](super::lock::Lock), or in memory of one thread.

use super::park::Meeting;

/// Whoever stands in a line, as those who serve it see him.
pub trait Waiter: Copy {
    /// Whether both are waits of one owner, who does not serve himself.
    fn is_same(&self, theirs: &Self) -> bool;
    /// Ends his wait for this line, unless it is over. Inside a lock: no point.
    fn claim(&self) -> bool;
    /// Ends both waits, or neither: for who stands in lines himself while he serves this one.
    fn meet(&self, theirs: &Self) -> Meeting;
    /// Ends his own wait, unless it is over: for who finds what he waits for himself. Inside a lock: no point.
    fn withdraw(&self) -> bool;
    /// He was claimed and served: lets him go on. Outside of every lock.
    fn wake(self);
}

/// The number of a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key(u32);

/// What an owner finds when he leaves.
#[derive(Debug)]
pub struct Left<T> {
    /// His wait was ended for this line.
    pub served: bool,
    /// What is in his place: what he brought, or what he was given.
    pub item: Option<T>,
}

/// See the head of the file. Mostly one waits, or nobody, so the place of number 0 is in the line itself.
#[derive(Debug)]
pub struct Line<W, T> {
    first: u32,
    last: u32,
    /// The first of those behind number 0 that are free.
    free: u32,
    waiting: u32,
    one: Place<W, T>,
    /// From number 1 on.
    others: Vec<Place<W, T>>,
}

#[derive(Debug)]
struct Place<W, T> {
    waiter: Option<W>,
    item: Option<T>,
    state: State,
    before: u32,
    after: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    Served,
    Skipped,
    Free,
}

const NONE: u32 = u32::MAX;

impl<W: Waiter, T> Default for Line<W, T> {
    fn default() -> Line<W, T> {
        let one = Place { waiter: None, item: None, state: State::Free, before: NONE, after: NONE };
        Line { first: NONE, last: NONE, free: NONE, waiting: 0, one, others: Vec::new() }
    }
}

impl<W: Waiter, T> Line<W, T> {
    /// Whether nobody stands in it.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// How many stand in it.
    pub fn len(&self) -> usize {
        self.waiting as usize
    }

    #[inline(always)]
    fn place(&mut self, key: u32) -> &mut Place<W, T> {
        match (key as usize).checked_sub(1) {
            None => &mut self.one,
            Some(number) => &mut self.others[number],
        }
    }

    /// Takes a place at the end.
    #[inline(always)]
    pub fn join(&mut self, waiter: W, item: Option<T>) -> Key {
        if self.is_empty() && self.one.state == State::Free {
            self.one.waiter = Some(waiter);
            self.one.item = item;
            self.one.state = State::Waiting;
            (self.first, self.last, self.waiting) = (0, 0, 1);
            return Key(0);
        }
        self.join_others(waiter, item)
    }

    #[inline(never)]
    fn join_others(&mut self, waiter: W, item: Option<T>) -> Key {
        let place =
            Place { waiter: Some(waiter), item, state: State::Waiting, before: self.last, after: NONE };
        let key = self.reserve(place);
        match self.last {
            NONE => self.first = key,
            last => self.place(last).after = key,
        }
        self.last = key;
        self.waiting += 1;
        Key(key)
    }

    /// The owner frees his place, which nobody else does.
    #[inline(always)]
    pub fn leave(&mut self, key: Key) -> Left<T> {
        self.unlink(key.0);
        let free = self.free;
        let place = self.place(key.0);
        assert!(place.state != State::Free, "a place is left once");
        let left = Left { served: place.state == State::Served, item: place.item.take() };
        place.state = State::Free;
        if key.0 != 0 {
            place.after = free;
            self.free = key.0;
        }
        left
    }

    /// Claims the first whose wait is not over; the others are passed over. The caller himself (`me`), who may wait at either end of one
    /// channel, stays where he stands. To be given to [`serve`](Self::serve), [`take`](Self::take) or [`dismiss`](Self::dismiss) within
    /// the same lock. `Err`: the caller's own wait was claimed meanwhile.
    #[inline(always)]
    pub fn claim_first(&mut self, me: Option<&W>) -> Result<Option<Claimed>, Overtaken> {
        match (self.first, &self.one.waiter) {
            (NONE, _) => Ok(None),
            (0, Some(theirs)) if me.is_none() && theirs.claim() => Ok(Some(Claimed(0))),
            _ => self.claim_first_if(me, |_| true),
        }
    }

    /// As `claim_first`, if what the first has brought fits.
    #[inline(never)]
    pub fn claim_first_if(
        &mut self,
        me: Option<&W>,
        fits: impl Fn(Option<&T>) -> bool,
    ) -> Result<Option<Claimed>, Overtaken> {
        let mut next = self.first;
        while next != NONE {
            let (key, last) = (next, self.last);
            let place = self.place(key);
            next = if key == last { NONE } else { place.after };
            if !fits(place.item.as_ref()) {
                return Ok(None);
            }
            let theirs = place.waiter.expect("who waits is somebody");
            let met = match me {
                Some(me) if me.is_same(&theirs) => continue,
                Some(me) => me.meet(&theirs),
                None if theirs.claim() => Meeting::Met,
                None => Meeting::Gone,
            };
            match met {
                Meeting::Met => return Ok(Some(Claimed(key))),
                Meeting::Gone => self.pass(key, State::Skipped),
                Meeting::Claimed => return Err(Overtaken),
            }
        }
        Ok(None)
    }

    /// Gives `item` to him who was claimed. He is to be woken outside of the lock.
    #[inline(always)]
    pub fn serve(&mut self, claimed: Claimed, item: Option<T>) -> W {
        self.pass(claimed.0, State::Served);
        let place = self.place(claimed.0);
        place.item = item;
        place.waiter.expect("who was claimed is somebody")
    }

    /// Takes from him who was claimed what he has brought. He is to be woken outside of the lock.
    pub fn take(&mut self, claimed: Claimed) -> (W, Option<T>) {
        let item = self.place(claimed.0).item.take();
        (self.serve(claimed, None), item)
    }

    /// Ends the wait of him who was claimed, and leaves him what he has brought.
    pub fn dismiss(&mut self, claimed: Claimed) -> W {
        let item = self.place(claimed.0).item.take();
        self.serve(claimed, item)
    }

    #[inline(always)]
    fn pass(&mut self, key: u32, state: State) {
        self.unlink(key);
        self.place(key).state = state;
    }

    fn reserve(&mut self, place: Place<W, T>) -> u32 {
        if self.free == NONE {
            self.others.push(place);
            return u32::try_from(self.others.len()).expect("fewer than 2^32 wait in one line");
        }
        let key = self.free;
        self.free = self.place(key).after;
        *self.place(key) = place;
        key
    }

    /// Takes a place out of the line, if it is in it.
    #[inline(always)]
    fn unlink(&mut self, key: u32) {
        if self.place(key).state != State::Waiting {
            return;
        }
        if key == 0 && self.waiting == 1 {
            (self.first, self.last, self.waiting) = (NONE, NONE, 0);
            self.one.state = State::Skipped;
        } else {
            self.unlink_among_others(key);
        }
    }

    #[inline(never)]
    fn unlink_among_others(&mut self, key: u32) {
        let Place { before, after, .. } = *self.place(key);
        match before {
            NONE => self.first = after,
            before => self.place(before).after = after,
        }
        match after {
            NONE => self.last = before,
            after => self.place(after).before = before,
        }
        self.waiting -= 1;
        self.place(key).state = State::Skipped;
    }
}

/// Somebody whose wait was ended for the line, and who has not been served yet.
#[must_use = "who was claimed waits until he is served and woken"]
#[derive(Debug)]
pub struct Claimed(u32);

/// The caller's own wait was ended by another: his wake-up is on its way, and must be awaited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overtaken;

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Waits until claimed.
    #[derive(Clone, Copy)]
    struct Someone<'a>(&'a Cell<bool>);

    impl Waiter for Someone<'_> {
        fn is_same(&self, theirs: &Self) -> bool {
            std::ptr::eq(self.0, theirs.0)
        }

        fn claim(&self) -> bool {
            self.0.replace(false)
        }

        fn meet(&self, theirs: &Self) -> Meeting {
            if theirs.claim() { Meeting::Met } else { Meeting::Gone }
        }

        fn withdraw(&self) -> bool {
            self.0.replace(false)
        }

        fn wake(self) {}
    }

    #[test]
    fn who_came_first_is_served_first_and_who_is_over_is_passed() {
        let waits: [Cell<bool>; 4] = std::array::from_fn(|_| Cell::new(true));
        let mut line = Line::default();
        let keys: Vec<Key> = waits.iter().map(|wait| line.join(Someone(wait), Some(0))).collect();
        waits[0].set(false);
        let first = line.claim_first(None).unwrap().unwrap();
        line.serve(first, Some(7));
        let left = line.leave(keys[2]);
        assert!(!left.served && left.item == Some(0), "what he brought is his");
        let second = line.claim_first(None).unwrap().unwrap();
        assert_eq!(line.take(second).1, Some(0));
        assert!(line.claim_first(None).unwrap().is_none() && line.is_empty());
        let left: Vec<(bool, Option<i32>)> = [keys[0], keys[1], keys[3]]
            .map(|key| line.leave(key))
            .map(|left| (left.served, left.item))
            .into();
        assert_eq!(left, [(false, Some(0)), (true, Some(7)), (true, None)]);
    }

    #[test]
    fn who_serves_does_not_serve_himself_and_keeps_his_place() {
        let waits: [Cell<bool>; 3] = std::array::from_fn(|_| Cell::new(true));
        let mut line: Line<Someone<'_>, ()> = Line::default();
        let [me, gone, other] = waits.each_ref().map(|wait| (Someone(wait), line.join(Someone(wait), None)));
        gone.0.claim();
        let claimed = line.claim_first(Some(&me.0)).unwrap().unwrap();
        line.serve(claimed, None);
        assert!(!line.leave(gone.1).served && line.leave(other.1).served);
        assert!(line.claim_first(Some(&me.0)).unwrap().is_none());
        assert!(line.claim_first(None).unwrap().is_some(), "and is found there by others");
    }

    #[test]
    fn places_are_used_again() {
        let wait = Cell::new(true);
        let mut line: Line<Someone<'_>, ()> = Line::default();
        for _ in 0..1000 {
            let (first, second) = (line.join(Someone(&wait), None), line.join(Someone(&wait), None));
            line.leave(first);
            line.leave(second);
        }
        assert!(line.others.len() <= 1 && line.is_empty());
    }

    #[test]
    #[should_panic(expected = "a place is left once")]
    fn a_place_is_left_once() {
        let wait = Cell::new(true);
        let mut line: Line<Someone<'_>, ()> = Line::default();
        let key = line.join(Someone(&wait), None);
        line.leave(key);
        line.leave(key);
    }
}
