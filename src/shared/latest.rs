//! A value that any thread may replace while others use it: what a reload puts in the place of an old configuration.
//!
//! Who reads takes the lock for as long as it takes to count one more reference, and uses the value after that for as long as it
//! likes. What was replaced is dropped outside of the lock, by whoever uses it last.

use super::lock::Lock;
use super::primitive::Arc;

/// See the head of the file.
pub struct Latest<T>(Lock<Arc<T>>);

impl<T> Latest<T> {
    /// A place for `value` and what comes after it.
    pub fn new(value: Arc<T>) -> Latest<T> {
        Latest(Lock::new(value))
    }

    /// The value that is there now.
    pub fn get(&self) -> Arc<T> {
        self.0.with(|value| value.clone())
    }

    /// Puts `value` in the place of the one that is there, which is the answer.
    pub fn replace(&self, value: Arc<T>) -> Arc<T> {
        self.0.with(|place| std::mem::replace(place, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_replaced_is_still_whole_for_those_who_use_it() {
        let latest = Latest::new(Arc::new("old".to_owned()));
        let old = latest.get();
        assert_eq!(*latest.replace(Arc::new("new".to_owned())), "old");
        assert_eq!((old.as_str(), latest.get().as_str()), ("old", "new"));
    }
}
