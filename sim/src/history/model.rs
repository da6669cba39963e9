//! Models: what an object does when its calls are made one after another. Four that everybody needs, and the trait for others.
//!
//! A model is small and obviously right, which is its use: an implementation that meets many callers at once is compared with it.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::marker::PhantomData;

/// What an object does with one call at a time.
pub trait Model: Send + Sync + 'static {
    /// What can be asked of it, by whom if that matters.
    type Call: Clone + Debug + Send;
    /// What it answers.
    type Answer: Clone + Debug + Send;
    /// What it remembers.
    type State: Clone + Ord;
    /// A part of the object that knows nothing of the others, such as a key. Each part's calls are looked at alone, which is
    /// what keeps long histories cheap.
    type Part: Ord + Debug;

    /// What it remembers in the beginning; of each part.
    fn start(&self) -> Self::State;

    /// What it remembers after a call with this answer; `None` if it does not answer so. Without an answer: after a call that took
    /// effect, whatever it answered; `None` if it could not.
    fn step(
        &self,
        state: &Self::State,
        call: &Self::Call,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;

    /// The part that a call is about.
    fn part(&self, call: &Self::Call) -> Self::Part;
}

/// One value that is read and written.
#[derive(Clone, Debug)]
pub struct Register<T> {
    first: T,
}

/// What is asked of a [`Register`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RegisterCall<T> {
    /// What does it hold?
    Read,
    /// It holds this from now on.
    Write(T),
    /// If it holds the first, it holds the second from now on.
    CompareExchange(T, T),
}

/// What a [`Register`] answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RegisterAnswer<T> {
    /// To a read.
    Value(T),
    /// To a write.
    Done,
    /// To an exchange: whether it was made.
    Exchanged(bool),
}

impl<T> Register<T> {
    /// One that holds `first` in the beginning.
    pub fn new(first: T) -> Register<T> {
        Register { first }
    }
}

impl<T: Clone + Ord + Debug + Send + Sync + 'static> Model for Register<T> {
    type Call = RegisterCall<T>;
    type Answer = RegisterAnswer<T>;
    type State = T;
    type Part = ();

    fn start(&self) -> T {
        self.first.clone()
    }

    fn step(&self, state: &T, call: &RegisterCall<T>, answer: Option<&RegisterAnswer<T>>) -> Option<T> {
        let (now, after) = match call {
            RegisterCall::Read => (RegisterAnswer::Value(state.clone()), state),
            RegisterCall::Write(value) => (RegisterAnswer::Done, value),
            RegisterCall::CompareExchange(old, new) => {
                let equal = state == old;
                (RegisterAnswer::Exchanged(equal), if equal { new } else { state })
            }
        };
        answer.is_none_or(|answer| *answer == now).then(|| after.clone())
    }

    fn part(&self, _call: &RegisterCall<T>) {}
}

/// Values by key; each key is a part.
#[derive(Clone, Debug)]
pub struct KeyValue<K, V>(PhantomData<fn() -> (K, V)>);

/// What is asked of a [`KeyValue`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyValueCall<K, V> {
    /// What is under this key?
    Get(K),
    /// This is, from now on.
    Put(K, V),
    /// This is, if nothing was.
    PutNew(K, V),
    /// Nothing is, from now on.
    Remove(K),
}

/// What a [`KeyValue`] answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyValueAnswer<V> {
    /// To a get.
    Value(Option<V>),
    /// To a put: it was done. To a remove: there was something. To a put of what is new: there was nothing, and now there is.
    Done,
    /// To a remove: there was nothing. To a put of what is new: there was something, and still is.
    NotDone,
}

impl<K, V> KeyValue<K, V> {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "as the other models")]
    pub fn new() -> KeyValue<K, V> {
        KeyValue(PhantomData)
    }
}

impl<K, V> Model for KeyValue<K, V>
where
    K: Clone + Ord + Debug + Send + 'static,
    V: Clone + Ord + Debug + Send + 'static,
{
    type Call = KeyValueCall<K, V>;
    type Answer = KeyValueAnswer<V>;
    type State = Option<V>;
    type Part = K;

    fn start(&self) -> Option<V> {
        None
    }

    fn step(
        &self,
        state: &Option<V>,
        call: &KeyValueCall<K, V>,
        answer: Option<&KeyValueAnswer<V>>,
    ) -> Option<Option<V>> {
        let done = |done| if done { KeyValueAnswer::Done } else { KeyValueAnswer::NotDone };
        let (now, after) = match call {
            KeyValueCall::Get(_) => (KeyValueAnswer::Value(state.clone()), state.clone()),
            KeyValueCall::Put(_, value) => (done(true), Some(value.clone())),
            KeyValueCall::PutNew(_, value) => {
                (done(state.is_none()), Some(state.as_ref().unwrap_or(value).clone()))
            }
            KeyValueCall::Remove(_) => (done(state.is_some()), None),
        };
        answer.is_none_or(|answer| *answer == now).then_some(after)
    }

    fn part(&self, call: &KeyValueCall<K, V>) -> K {
        match call {
            KeyValueCall::Get(key) | KeyValueCall::Remove(key) => key.clone(),
            KeyValueCall::Put(key, _) | KeyValueCall::PutNew(key, _) => key.clone(),
        }
    }
}

/// Items that leave in the order in which they came.
#[derive(Clone, Debug)]
pub struct Queue<T> {
    bound: usize,
    items: PhantomData<fn() -> T>,
}

/// What is asked of a [`Queue`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueueCall<T> {
    /// Takes this in.
    Push(T),
    /// Gives the oldest.
    Pop,
}

/// What a [`Queue`] answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueueAnswer<T> {
    /// To a push: it is in.
    Pushed,
    /// To a push: there is no room. It certainly is not in.
    Full,
    /// To a pop.
    Popped(T),
    /// To a pop: there is nothing.
    Empty,
}

impl<T> Queue<T> {
    /// One that holds as much as there is memory for.
    pub fn unbounded() -> Queue<T> {
        Queue { bound: usize::MAX, items: PhantomData }
    }

    /// One with room for `bound` items. A push that waits for room is done when there is.
    ///
    /// # Panics
    /// If `bound` is 0: where a push and a pop meet, neither of them is at one instant alone. Take a bound of 1.
    pub fn bounded(bound: usize) -> Queue<T> {
        assert!(bound > 0, "a queue without room is no object with one call at a time");
        Queue { bound, items: PhantomData }
    }
}

impl<T: Clone + Ord + Debug + Send + 'static> Model for Queue<T> {
    type Call = QueueCall<T>;
    type Answer = QueueAnswer<T>;
    type State = VecDeque<T>;
    type Part = ();

    fn start(&self) -> VecDeque<T> {
        VecDeque::new()
    }

    fn step(
        &self,
        state: &VecDeque<T>,
        call: &QueueCall<T>,
        answer: Option<&QueueAnswer<T>>,
    ) -> Option<VecDeque<T>> {
        let room = state.len() < self.bound;
        let mut after = state.clone();
        let fits = match (call, answer) {
            (QueueCall::Push(item), None | Some(QueueAnswer::Pushed)) => {
                after.push_back(item.clone());
                room
            }
            (QueueCall::Push(_), Some(QueueAnswer::Full)) => !room,
            (QueueCall::Pop, None) => after.pop_front().is_some(),
            (QueueCall::Pop, Some(QueueAnswer::Popped(item))) => after.pop_front().as_ref() == Some(item),
            (QueueCall::Pop, Some(QueueAnswer::Empty)) => state.is_empty(),
            _ => false,
        };
        fits.then_some(after)
    }

    fn part(&self, _call: &QueueCall<T>) {}
}

/// A lock that one at a time holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lock;

/// What is asked of a [`Lock`], and by whom: a number of the caller's own. The answer is whether it was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockCall {
    /// Takes it. Whoever waits has it when it is free; one who gave up waiting was answered `false`, at any time.
    Lock(u64),
    /// Takes it, if it is free.
    TryLock(u64),
    /// Gives it back. `false`: it was not the caller's.
    Unlock(u64),
}

impl Model for Lock {
    type Call = LockCall;
    type Answer = bool;
    type State = Option<u64>;
    type Part = ();

    fn start(&self) -> Option<u64> {
        None
    }

    fn step(&self, holder: &Option<u64>, call: &LockCall, answer: Option<&bool>) -> Option<Option<u64>> {
        let done = *answer.unwrap_or(&true);
        match *call {
            LockCall::Lock(_) if !done => Some(*holder),
            LockCall::Lock(caller) | LockCall::TryLock(caller) => match (done, holder) {
                (true, None) => Some(Some(caller)),
                (false, Some(_)) => Some(*holder),
                _ => None,
            },
            LockCall::Unlock(caller) => match (done, *holder == Some(caller)) {
                (true, true) => Some(None),
                (false, false) => Some(*holder),
                _ => None,
            },
        }
    }

    fn part(&self, _call: &LockCall) {}
}
