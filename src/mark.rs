//! Marks: what code says about itself to whoever searches it for bugs.
//!
//! Four macros, for any code that links this crate. Each puts a [`Mark`] into the program, with its file and line, and a table of
//! them all, made by the linker, says also which were never reached.
//!
//! | macro | says | where nobody watches |
//! |---|---|---|
//! | [`always!`](crate::always) | this holds whenever it is asked | the condition is not evaluated |
//! | [`sometimes!`](crate::sometimes) | this must have held in some run, or the tests are too weak | the condition is not evaluated |
//! | [`reachable!`](crate::reachable) | some run must come here | nothing |
//! | [`buggify!`](crate::buggify) | here it may go the rare way | `false` |
//!
//! Whoever watches installs a [`Watcher`] for the whole program, once; the simulator does, and hears of what runs in its worlds.
//! In a program without one, and so in every service, a mark is one load and one branch that is always predicted.

use std::fmt;
use std::sync::OnceLock;

/// A place in the code.
#[derive(PartialEq, Eq, Debug)]
#[repr(C)] // one after the other in the table, whatever crate each comes from
pub struct Mark {
    /// What it is.
    pub kind: MarkKind,
    /// The line of its file.
    pub line: u32,
    /// The file, as the compiler was told it.
    pub file: &'static str,
    /// Its name, or the condition.
    pub name: &'static str,
}

/// What a mark says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum MarkKind {
    /// [`always!`](crate::always)
    Always,
    /// [`sometimes!`](crate::sometimes)
    Sometimes,
    /// [`reachable!`](crate::reachable)
    Reachable,
    /// [`buggify!`](crate::buggify)
    Buggify,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mark { kind, line, file, name } = self;
        let kind = match kind {
            MarkKind::Always => "always",
            MarkKind::Sometimes => "sometimes",
            MarkKind::Reachable => "reachable",
            MarkKind::Buggify => "buggify",
        };
        write!(f, "{kind} {name:?} at {file}:{line}")
    }
}

/// Who hears of marks.
pub trait Watcher: Sync {
    /// Code comes to the mark, and what it is about holds or not. `told` says it in words.
    fn reached(&self, mark: &'static Mark, holds: bool, told: fmt::Arguments<'_>);

    /// Whether it goes the rare way here.
    fn goes_wrong(&self, mark: &'static Mark) -> bool;
}

static WATCHER: OnceLock<&'static dyn Watcher> = OnceLock::new();

/// Has `watcher` hear of every mark of the program from now on. The first one stays.
pub fn watch(watcher: &'static dyn Watcher) {
    WATCHER.get_or_init(|| watcher);
}

/// Who watches.
#[inline(always)]
pub fn watcher() -> Option<&'static dyn Watcher> {
    WATCHER.get().copied()
}

/// So that there is a table also in a program without marks.
#[used]
#[unsafe(link_section = "machinarium_marks")]
static FIRST: Mark = Mark { kind: MarkKind::Always, line: line!(), file: file!(), name: "" };

unsafe extern "C" {
    /// The table's beginning, as the linker calls it.
    #[link_name = "__start_machinarium_marks"]
    static BEGIN: u8;
    /// One past its last mark.
    #[link_name = "__stop_machinarium_marks"]
    static END: u8;
}

/// All marks of the program, in no particular order. Code that the linker has found unused has none.
pub fn all() -> &'static [Mark] {
    // The table of a program that uses it is linked in with its first entry.
    std::hint::black_box(&FIRST);
    let (begin, end) = (&raw const BEGIN, &raw const END);
    let count = (end.addr() - begin.addr()) / size_of::<Mark>();
    // SAFETY: the linker puts BEGIN and END around the section, in which there are only statics of type `Mark`, made by the
    // macros of this file: of one size, which is a multiple of their alignment, so they lie one after the other. They are
    // never written.
    unsafe { std::slice::from_raw_parts(begin.cast(), count) }
}

/// The number of a mark in [`all`]. `None`: it is not there, since no macro of this program has made it.
pub fn number(mark: &'static Mark) -> Option<usize> {
    let bytes = std::ptr::from_ref(mark).addr().checked_sub((&raw const BEGIN).addr())?;
    Some(bytes / size_of::<Mark>()).filter(|number| *number < all().len())
}

impl Mark {
    /// Whether somebody wrote it.
    pub fn is_written(&self) -> bool {
        !self.name.is_empty()
    }
}

/// A mark at the place of the macro that uses this.
#[doc(hidden)]
#[macro_export]
macro_rules! __mark {
    ($kind:ident, $name:expr) => {{
        #[used]
        #[unsafe(link_section = "machinarium_marks")]
        static MARK: $crate::mark::Mark = $crate::mark::Mark {
            kind: $crate::mark::MarkKind::$kind,
            line: line!(),
            file: file!(),
            name: $name,
        };
        &MARK
    }};
}

/// This holds, in every run, whenever it is asked. In a simulation the run fails where it does not, also if a panic would be
/// caught there; where nobody watches, the condition is not even evaluated.
///
/// With a text, as `assert!` takes one, that is told as well.
///
/// ```
/// let (sent, received) = (3, 3);
/// machinarium::always!(received <= sent);
/// machinarium::always!(received <= sent, "{received} of {sent}");
/// machinarium::always!(panic!("nobody watches here, so nobody asks"));
/// ```
#[macro_export]
macro_rules! always {
    ($condition:expr $(,)?) => { $crate::always!($condition, "{}", stringify!($condition)) };
    ($condition:expr, $($told:tt)+) => {
        if let Some(watcher) = $crate::mark::watcher() {
            let mark = $crate::__mark!(Always, stringify!($condition));
            watcher.reached(mark, $condition, format_args!($($told)+));
        }
    };
}

/// This must have held once, in some run, or the runs do not try what they should. What never did is listed by the simulator after
/// many runs; the first run in which it does is where it looks further.
///
/// ```
/// let waiting = [1, 2];
/// machinarium::sometimes!(waiting.len() > 1, "two wait at once");
/// ```
#[macro_export]
macro_rules! sometimes {
    ($condition:expr, $name:literal $(,)?) => {
        if let Some(watcher) = $crate::mark::watcher() {
            let mark = $crate::__mark!(Sometimes, $name);
            watcher.reached(mark, $condition, format_args!($name));
        }
    };
}

/// Some run must come here. The simulator lists those to which none came.
///
/// ```
/// fn reconnect() {
///     machinarium::reachable!("the connection is made again");
/// }
/// # reconnect();
/// ```
#[macro_export]
macro_rules! reachable {
    ($name:literal $(,)?) => {
        if let Some(watcher) = $crate::mark::watcher() {
            let mark = $crate::__mark!(Reachable, $name);
            watcher.reached(mark, true, format_args!($name));
        }
    };
}

/// Whether to go the rare way here: fail though nothing has failed, take the slow path, use a tiny buffer. Never, but in a
/// simulation: there, some runs of a process have each of these places on, and then one visit of four goes wrong. It is a choice of the
/// run, repeated with its seed and shrunk away where it does not matter.
///
/// ```
/// fn batch() -> usize {
///     if machinarium::buggify!() { 1 } else { 1000 }
/// }
/// assert_eq!(batch(), 1000);
/// ```
#[macro_export]
macro_rules! buggify {
    () => {
        $crate::buggify!("buggify")
    };
    ($name:literal $(,)?) => {
        match $crate::mark::watcher() {
            Some(watcher) => watcher.goes_wrong($crate::__mark!(Buggify, $name)),
            None => false,
        }
    };
}
