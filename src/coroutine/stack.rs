//! Pools of stacks. A pool owns its slabs, hands out slots, and takes them back; it runs nothing.
//!
//! A slot is in one of these states:
//!
//! | state | pages | guard | where |
//! |---|---|---|---|
//! | fresh | none, or what another pool has left | the same | behind `used` in the newest slab |
//! | live | those touched | yes (or counted as unguarded) | with whoever allocated it |
//! | warm | those touched | yes | `warm`, at most `cache` of them; the lowest `clean` of them keep `keep` bytes at most |
//! | cold | none | yes | `cold` |
//!
//! Outside of live and warm slots, control blocks are all zero. Allocation prefers warm to cold to fresh, and takes the one
//! released last: its pages are in the cache. Slabs double from [`FIRST_SLAB`] slots, so that a small program maps little. They are
//! unmapped when the pool is dropped, or left to the next pool ([`Spares`]), unless a stack is still live then: something may
//! stand on it, so the slabs stay mapped for ever.
//!
//! How deep a stack was used is not known: to write it down at each release, or to ask the kernel, costs more than a spawn.
//! So a release keeps all pages, and whoever is idle calls [`Stacks::sweep`], which gives back those of the warm
//! slots that were used since the last time. A program that is busy finds its stacks warm to their depth.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use super::Header;
use super::slab::{Layout, Slab, discard, max_map_count, page};
use super::spare::Spares;

/// How many slots the first slab of a pool has.
const FIRST_SLAB: usize = 16;
/// What the compiler may use below the stack pointer.
const RED_ZONE: usize = 128;

/// What happens when a stack can have no guard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Guards {
    /// There is no stack, but an error that says what to raise.
    #[default]
    Required,
    /// The stack is used without one and counted: an overflow then writes over the stack below.
    BestEffort,
}

/// What a pool's stacks are like.
#[derive(Clone, Copy, Debug)]
pub struct StackOptions {
    /// Bytes of each stack, control block included: a multiple of the page size. Only what is touched costs memory.
    pub size: usize,
    /// Bytes below each stack whose touch is a fault: a multiple of the page size. More than a page, since C code does not
    /// probe its frames.
    pub guard: usize,
    /// How many stacks may be live at once.
    pub limit: usize,
    /// How many released stacks keep their pages.
    pub cache: usize,
    /// How many bytes of each of those survive a sweep.
    pub keep: usize,
    /// How many slots one mapping has at most.
    pub slab: usize,
    /// What happens when a stack can have no guard.
    pub guards: Guards,
    /// Bytes of the control block, of which a [`Header`] is the beginning.
    pub control: usize,
    /// These are the big ones: the report of an overflow then names the setting of those.
    pub big: bool,
    /// Makes guards by `mprotect` though the kernel knows better: for tests of that path.
    pub force_mprotect: bool,
    /// Whose they are: the address of what a debugger is to be told of it, or 0.
    pub owner: usize,
}

impl Default for StackOptions {
    fn default() -> StackOptions {
        StackOptions {
            size: 256 << 10,
            guard: 64 << 10,
            limit: 1 << 20,
            cache: 1024,
            keep: 16 << 10,
            slab: 1024,
            guards: Guards::Required,
            control: size_of::<Header>(),
            big: false,
            force_mprotect: false,
            owner: 0,
        }
    }
}

/// Why there is no stack.
#[derive(Debug)]
#[non_exhaustive]
pub enum StackError {
    /// As many as the pool may have are live.
    Limit {
        /// [`StackOptions::limit`].
        limit: usize,
    },
    /// No pool can be made of these options.
    Options(&'static str),
    /// The kernel gave no address space.
    Map(io::Error),
    /// The kernel gave no guard.
    Guard {
        /// How many stacks of the pool have one.
        made: usize,
        /// The sysctl `vm.max_map_count`.
        max_map_count: usize,
        /// What the kernel said.
        source: io::Error,
    },
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StackError::Limit { limit } => {
                write!(f, "all {limit} stacks are in use: raise the limit, or wait for a coroutine to end")
            }
            StackError::Options(what) => write!(f, "no stacks can be made like this: {what}"),
            StackError::Map(source) => write!(
                f,
                "no address space for stacks ({source}): make them smaller, or look at ulimit -v and at the sysctls \
                 vm.max_map_count and vm.overcommit_memory"
            ),
            StackError::Guard { source, .. } if source.kind() == io::ErrorKind::Unsupported => {
                write!(f, "this system makes no guards below stacks: accept that with Guards::BestEffort")
            }
            StackError::Guard { made, max_map_count, source } => write!(
                f,
                "no guard for another stack after {made} ({source}): raise the sysctl vm.max_map_count (now \
                 {max_map_count}; each guard takes two mappings), run Linux 6.13 or newer, where guards take none, or \
                 go without by Guards::BestEffort"
            ),
        }
    }
}

impl std::error::Error for StackError {}

impl From<StackError> for io::Error {
    fn from(error: StackError) -> io::Error {
        io::Error::new(io::ErrorKind::OutOfMemory, error)
    }
}

/// A stack in use, named by the header of its control block. Dropping it does not release it: only
/// [`Stacks::release`] does.
#[derive(Debug)]
#[must_use = "a stack that is dropped stays live until its pool is gone"]
pub struct Stack(NonNull<Header>);

impl Stack {
    /// The control block's first bytes.
    #[inline]
    pub fn header(&self) -> *mut Header {
        self.0.as_ptr()
    }

    /// The number of the slot in its pool.
    #[inline]
    pub fn index(&self) -> u32 {
        // SAFETY: the slot is live, and `allocate` wrote its header.
        unsafe { (*self.0.as_ptr()).index }
    }

    /// The first byte above the stack, where the control block begins: a multiple of 64.
    #[inline]
    pub fn top(&self) -> *mut u8 {
        self.0.as_ptr().cast()
    }

    /// The header, from which [`from_raw`](Self::from_raw) makes the stack again.
    #[inline]
    pub fn into_raw(self) -> *mut Header {
        self.0.as_ptr()
    }

    /// The stack of this header.
    ///
    /// # Safety
    /// `header` came from [`into_raw`](Self::into_raw), and no other `Stack` was made of it since.
    #[inline]
    pub unsafe fn from_raw(header: *mut Header) -> Stack {
        // SAFETY: the caller's promise: it came from a `NonNull`.
        Stack(unsafe { NonNull::new_unchecked(header) })
    }
}

/// A pool of stacks of one size, for one thread. See the head of the file.
pub struct Stacks {
    options: StackOptions,
    layout: Layout,
    slots: RefCell<Slots>,
    spares: Option<Rc<Spares>>,
}

#[derive(Default)]
struct Slots {
    slabs: Vec<Slab>,
    /// How many slots of the newest slab are no longer fresh.
    used: usize,
    /// How many slots of all slabs are no longer fresh: the next one's number.
    total: u32,
    /// Their headers are whole: a warm slot is no more than a pointer, which is what a spawn pays for.
    warm: Vec<NonNull<Header>>,
    /// How many of the warm slots, from the one released first, were swept and not used since.
    clean: usize,
    cold: Vec<Cold>,
    live: usize,
    unguarded: usize,
}

/// A slot that has no pages: what its header said.
#[derive(Clone, Copy)]
struct Cold {
    base: usize,
    index: u32,
}

impl Stacks {
    /// A pool, which maps nothing yet.
    ///
    /// # Errors
    /// [`StackError::Options`].
    pub fn new(options: StackOptions) -> Result<Stacks, StackError> {
        Stacks::with_spares(options, None)
    }

    /// The same, which takes slabs that other pools have left, and leaves its own.
    ///
    /// # Errors
    /// [`StackError::Options`].
    pub fn with_spares(options: StackOptions, spares: Option<Rc<Spares>>) -> Result<Stacks, StackError> {
        let layout = checked_layout(&options)?;
        Ok(Stacks { options, layout, slots: RefCell::default(), spares })
    }

    /// A stack, with `low`, `high` and `index` of its header filled in, and neither id nor name.
    ///
    /// # Errors
    /// All of [`StackError`] but `Options`.
    #[inline]
    pub fn allocate(&self) -> Result<Stack, StackError> {
        let slots = &mut *self.slots.borrow_mut();
        if slots.live >= self.options.limit {
            return Err(StackError::Limit { limit: self.options.limit });
        }
        let header = match slots.warm.pop() {
            Some(header) => header,
            None => self.allocate_cold(slots)?,
        };
        slots.clean = slots.clean.min(slots.warm.len());
        slots.live += 1;
        // SAFETY: the slot is mapped, its header whole, and it was nobody's until now.
        unsafe {
            #[cfg(feature = "sanitize")]
            super::sanitize::live(header.as_ptr());
            (*header.as_ptr()).id = 0;
            (*header.as_ptr()).name_len = 0;
        }
        Ok(Stack(header))
    }

    #[cold]
    fn allocate_cold(&self, slots: &mut Slots) -> Result<NonNull<Header>, StackError> {
        let Cold { base, index } = match slots.cold.pop() {
            Some(slot) => slot,
            None => self.first_use(slots)?,
        };
        let address = self.layout.header(base, index) as *mut Header;
        let header = NonNull::new(address).expect("within a mapping");
        // SAFETY: the slot is mapped, large enough for a control block (`checked_layout`), and nobody's.
        unsafe {
            (*address).low = base + self.layout.guard;
            (*address).high = base + self.layout.stride();
            (*address).index = index;
        }
        Ok(header)
    }

    fn grow(&self, slots: &mut Slots) -> Result<(), StackError> {
        let doubled = slots.slabs.last().map_or(FIRST_SLAB, |slab| slab.slots().saturating_mul(2));
        let left = self.options.limit - slots.live;
        let count = doubled.min(self.options.slab).min(left);
        let spare = self.spares.as_ref().and_then(|spares| spares.take(self.layout, count, slots.total));
        let fresh = || Slab::map(self.layout, count, slots.total).map_err(StackError::Map);
        let slab = spare.map_or_else(fresh, Ok)?;
        slots.slabs.push(slab);
        slots.used = 0;
        Ok(())
    }

    fn first_use(&self, slots: &mut Slots) -> Result<Cold, StackError> {
        if slots.slabs.last().is_none_or(|slab| slots.used == slab.slots()) {
            self.grow(slots)?;
        }
        let slab = slots.slabs.last_mut().expect("a slab with a fresh slot");
        if let Err(source) = slab.guard(slots.used, self.options.force_mprotect) {
            if self.options.guards == Guards::Required {
                let made = slots.total as usize - slots.unguarded;
                return Err(StackError::Guard { made, max_map_count: max_map_count(), source });
            }
            slots.unguarded += 1;
        }
        let (base, index) = (slab.slot(slots.used), slots.total);
        // What another pool has left there is not ours.
        let control = self.layout.header(base, index) as *mut u8;
        // SAFETY: within the slot, which is mapped and nobody's.
        unsafe { control.write_bytes(0, self.layout.control) };
        slots.used += 1;
        slots.total += 1;
        slots.slabs.last().expect("the same").note(self.options.owner, slots.used);
        Ok(Cold { base, index })
    }

    /// Takes a stack back.
    ///
    /// # Safety
    /// It is of this pool; nothing runs on it, is suspended on it, or points into it. Its control block may be read
    /// until the pool is dropped, and may then be all zero.
    #[inline]
    pub unsafe fn release(&self, stack: Stack) {
        // SAFETY: the caller's promise.
        #[cfg(feature = "sanitize")]
        unsafe {
            super::sanitize::dead(stack.header());
        }
        let slots = &mut *self.slots.borrow_mut();
        slots.live -= 1;
        if slots.warm.len() < self.options.cache {
            slots.warm.push(stack.0);
        } else {
            self.cool(slots, stack);
        }
    }

    #[cold]
    fn cool(&self, slots: &mut Slots, stack: Stack) {
        // SAFETY: `allocate` wrote the header, and a stack is of this pool.
        let (high, index) = unsafe { ((*stack.header()).high, (*stack.header()).index) };
        let base = high - self.layout.stride();
        debug_assert_eq!(stack.header() as usize, self.layout.header(base, index));
        // SAFETY: the slot is nobody's, and this is all of it above the guard.
        unsafe { discard(base + self.layout.guard, high) };
        slots.cold.push(Cold { base, index });
    }

    /// Gives the pages back that a suspended coroutine has used before, and does not use now.
    ///
    /// # Safety
    /// The header is that of a live stack of this pool. Nothing runs on it, and its stack pointer is `used_low` or higher.
    pub unsafe fn trim(&self, header: &Header, used_low: usize) {
        let low = header.low;
        assert!((low..=header.high).contains(&used_low), "an address in the stack");
        // SAFETY: below the red zone of a stack that does not run is nothing that it needs.
        unsafe { discard(low, (used_low - RED_ZONE).max(low)) };
    }

    /// How many warm slots a sweep would look at.
    pub fn unswept(&self) -> usize {
        let slots = self.slots.borrow();
        slots.warm.len() - slots.clean
    }

    /// Gives back what lies deeper than `keep` in the warm slots that were used since the last sweep.
    pub fn sweep(&self) {
        let slots = &mut *self.slots.borrow_mut();
        let kept = self.options.keep.next_multiple_of(page()).clamp(page(), self.layout.size);
        for header in &slots.warm[slots.clean..] {
            // SAFETY: a warm slot's header is whole.
            let (low, high) = unsafe { (header.as_ref().low, header.as_ref().high) };
            let end = (high - kept).min(header.addr().get());
            // SAFETY: the slot is nobody's, and this is above its guard and below its header.
            unsafe { discard(low, end) };
        }
        slots.clean = slots.warm.len();
    }

    /// How many stacks are in use.
    pub fn live(&self) -> usize {
        self.slots.borrow().live
    }

    /// How many released stacks keep their pages.
    pub fn cached(&self) -> usize {
        self.slots.borrow().warm.len()
    }

    /// How many stacks were ever handed out without a guard, by [`Guards::BestEffort`].
    pub fn unguarded(&self) -> usize {
        self.slots.borrow().unguarded
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        let slots = self.slots.get_mut();
        for slab in slots.slabs.drain(..) {
            slab.note(0, 0);
            match &self.spares {
                _ if slots.live > 0 => slab.leak(),
                Some(spares) => spares.keep(slab),
                None => drop(slab),
            }
        }
    }
}

fn checked_layout(options: &StackOptions) -> Result<Layout, StackError> {
    let control = options.control.next_multiple_of(align_of::<Header>());
    let page = page();
    let wrong = if !options.size.is_multiple_of(page) || !options.guard.is_multiple_of(page) {
        "stack and guard must be multiples of the page size"
    } else if options.guard == 0 {
        "a guard has at least one page"
    } else if options.size > 1 << 40 || options.guard > 1 << 40 {
        "a stack has at most a terabyte"
    } else if control < size_of::<Header>() || options.size < control + 2 * page {
        "a stack must hold its control block and two pages"
    } else if options.slab == 0 || options.limit == 0 || u32::try_from(options.limit).is_err() {
        "slab and limit must be between 1 and 2^32"
    } else {
        return Ok(Layout { guard: options.guard, size: options.size, control, big: options.big });
    };
    Err(StackError::Options(wrong))
}
