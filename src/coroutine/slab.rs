//! One mapping for many stacks, where things lie in it, and the guards below the stacks.
//!
//! ```text
//! slab   | slot 0 | slot 1 | ...                       one mapping, one line in /proc/self/maps
//! slot   | guard | stack, growing down  <- | control block | colour |
//!        ^ base  ^ low                     ^ header, top            ^ high
//! ```
//!
//! The *colour* moves the control block, and the frames below it, by a cache line from one slot to the next, within
//! the top page. Without it the saved frames of all coroutines would compete for the same few sets of the cache.
//!
//! A guard is installed when its slot is first used, since even an unused one costs page tables. Two calls can make it:
//!
//! | method | since | cost |
//! |---|---|---|
//! | `Install` (`MADV_GUARD_INSTALL`) | Linux 6.13 | no mapping: a million of them is fine |
//! | `Protect` (`mprotect`) | always | splits the mapping, two lines a stack: ends near 32,000 (`vm.max_map_count`) |
//! | `Nothing` | | some sandboxes accept both calls and do neither |
//!
//! Which one works is found out once, by touching a guard (see [`works`]), not by what a call answers. The
//! guards made by `mprotect` are counted over the whole OS process, to leave mappings to `malloc` and to threads: at the limit
//! itself the next allocation would abort the process, instead of a spawn giving an error.

use std::io;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Header, registry};

/// The smallest page that there is: where things lie in a slot goes by it, whatever the system has.
const PAGE: usize = 4096;
const LINE: usize = 64;
/// How much of the top page is left to frames, so that a shallow idle coroutine costs this one page.
const TOP_FRAMES: usize = 2048;
/// Not in `libc` yet.
const MADV_GUARD_INSTALL: libc::c_int = 102;
/// What Linux has if `/proc` cannot say.
const MAX_MAP_COUNT: usize = 65_530;

/// Where things lie in the slots of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    pub(super) guard: usize,
    /// Stack, control block and colour.
    pub(super) size: usize,
    /// Of the control block, a multiple of a cache line.
    pub(super) control: usize,
    /// Of the big stacks.
    pub(super) big: bool,
}

impl Layout {
    /// Bytes from one slot to the next.
    pub(super) fn stride(self) -> usize {
        self.guard + self.size
    }

    /// How many cache lines the control block moves before it is back at the end of its slot.
    fn colours(self) -> usize {
        ((PAGE - TOP_FRAMES).saturating_sub(self.control) / LINE).max(1)
    }

    /// The address of the control block in the slot at `base` with that number.
    pub(super) fn header(self, base: usize, index: u32) -> usize {
        base + self.stride() - self.control - (index as usize % self.colours()) * LINE
    }
}

/// One mapping. Known to the [`registry`] while it lives.
pub(super) struct Slab {
    base: usize,
    slots: usize,
    /// The number of the first slot.
    first: u32,
    layout: Layout,
    entry: &'static registry::Entry,
    /// The slots before this place have their guards.
    guarded: usize,
    /// How many of its guards were made by `mprotect`.
    protected: usize,
    #[cfg(feature = "sanitize")]
    known: super::sanitize::Known,
}

impl Slab {
    /// Maps `slots` slots, of which the first has the number `first`. Nothing is touched and no guard is made.
    pub(super) fn map(layout: Layout, slots: usize, first: u32) -> io::Result<Slab> {
        let bytes = layout.stride().checked_mul(slots).ok_or(io::ErrorKind::OutOfMemory)?;
        let base = map(bytes)?;
        // A huge page would make many stacks resident at the first touch of one. Without huge pages: EINVAL, no harm.
        // SAFETY: the mapping is ours.
        unsafe { libc::madvise(base as *mut _, bytes, libc::MADV_NOHUGEPAGE) };
        let entry = registry::add(registry::Region { base, slots, first, layout });
        Ok(Slab {
            base,
            slots,
            first,
            layout,
            entry,
            guarded: 0,
            protected: 0,
            #[cfg(feature = "sanitize")]
            known: super::sanitize::Known::new(base, bytes),
        })
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Whether [`map`](Slab::map) of these would give one like it.
    pub(super) fn is(&self, layout: Layout, slots: usize, first: u32) -> bool {
        (self.layout, self.slots, self.first) == (layout, slots, first)
    }

    /// Says, for debuggers, whose it is and how many of its slots were ever used.
    pub(super) fn note(&self, owner: usize, used: usize) {
        registry::note(self.entry, owner, used);
    }

    /// The base of a slot.
    pub(super) fn slot(&self, place: usize) -> usize {
        assert!(place < self.slots, "a slot of this slab");
        self.base + place * self.layout.stride()
    }

    /// Sees to it that a slot has its guard. Pools use slots in their order.
    pub(super) fn guard(&mut self, place: usize, force_protect: bool) -> io::Result<()> {
        #[cfg(feature = "sanitize")]
        self.known.add(place, self.slot(place) + self.layout.guard, self.layout.size);
        if place >= self.guarded {
            self.make_guard(place, force_protect)?;
            // Behind one that could not be had, it is made again.
            self.guarded += usize::from(place == self.guarded);
        }
        Ok(())
    }

    fn make_guard(&mut self, place: usize, force_protect: bool) -> io::Result<()> {
        let (base, bytes) = (self.slot(place), self.layout.guard);
        let method = if force_protect { Method::Protect } else { *method() };
        match method {
            // A process that has locked its memory (mlockall) is answered EINVAL, and then the old way may still work.
            Method::Install => install(base, bytes).or_else(|_| self.protect(base, bytes)),
            Method::Protect => self.protect(base, bytes),
            Method::Nothing => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn protect(&mut self, base: usize, bytes: usize) -> io::Result<()> {
        // Relaxed: a count; nobody reads other memory because of it.
        if PROTECTED.fetch_add(1, Ordering::Relaxed) >= protect_limit() {
            PROTECTED.fetch_sub(1, Ordering::Relaxed);
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        let made = protect(base, bytes);
        if made.is_ok() {
            self.protected += 1;
        } else {
            PROTECTED.fetch_sub(1, Ordering::Relaxed);
        }
        made
    }

    /// Leaves the slab mapped for ever: something may still stand on its stacks.
    pub(super) fn leak(self) {
        std::mem::forget(self);
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        registry::remove(self.entry);
        unmap(self.base, self.slots * self.layout.stride());
        PROTECTED.fetch_sub(self.protected, Ordering::Relaxed);
    }
}

/// The system's page, of which guards and what is given back are whole multiples: 4 KiB, or, on 64-bit Arm, up to 64.
pub(crate) fn page() -> usize {
    // SAFETY: takes no pointer.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Gives the whole pages of `low..high` back; they read as zeroes afterwards. Guards stay.
///
/// # Safety
/// The range is within one slot, above its guard, begins where a page does, and nobody needs what is there.
pub(super) unsafe fn discard(low: usize, high: usize) {
    debug_assert!(low.is_multiple_of(page()));
    let high = high / page() * page();
    if low < high {
        // SAFETY: the caller's promise. If it fails, the pages stay, which costs memory and nothing else.
        unsafe { libc::madvise(low as *mut _, high - low, libc::MADV_DONTNEED) };
    }
}

/// How guards are made. See the head of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Method {
    Install,
    Protect,
    Nothing,
}

fn method() -> &'static Method {
    static METHOD: OnceLock<Method> = OnceLock::new();
    METHOD.get_or_init(|| {
        if works(install) {
            Method::Install
        } else if works(protect) {
            Method::Protect
        } else {
            Method::Nothing
        }
    })
}

/// Whether a guard made this way is one: the kernel itself writes to it, and must say EFAULT.
fn works(make: fn(usize, usize) -> io::Result<()>) -> bool {
    let bytes = page();
    let Ok(page) = map(bytes) else { return false };
    let made = make(page, bytes).is_ok();
    // Any call that takes memory and no descriptor would do, and every sandbox lets this one pass. Not one that valgrind answers
    // itself: there the guard would end the program.
    // SAFETY: the call writes 16 bytes at `page`, which is ours, or faults in the kernel and says so.
    let answer = unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, page) };
    let faults = answer == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT);
    unmap(page, bytes);
    made && faults
}

fn install(base: usize, bytes: usize) -> io::Result<()> {
    // SAFETY: callers give whole pages of their own mapping, which nobody uses.
    check(unsafe { libc::madvise(base as *mut _, bytes, MADV_GUARD_INSTALL) })
}

fn protect(base: usize, bytes: usize) -> io::Result<()> {
    // SAFETY: as in `install`.
    check(unsafe { libc::mprotect(base as *mut _, bytes, libc::PROT_NONE) })
}

/// How many guards of this OS process were made by `mprotect` and are still there.
static PROTECTED: AtomicUsize = AtomicUsize::new(0);

/// How many there may be: each takes two mappings, and an eighth of all is left to others.
fn protect_limit() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| max_map_count() / 8 * 7 / 2)
}

/// The limit of mappings in a process, which is what stacks guarded by `mprotect` run into.
pub(super) fn max_map_count() -> usize {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    text.trim().parse().unwrap_or(MAX_MAP_COUNT)
}

/// Maps private zeroed memory that is not accounted for until it is touched.
pub(super) fn map(bytes: usize) -> io::Result<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
    // SAFETY: a new mapping at a place that the kernel chooses touches nothing that exists.
    let base = unsafe { libc::mmap(null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(base as usize) }
}

/// Unmaps what [`map`] gave.
pub(super) fn unmap(base: usize, bytes: usize) {
    // SAFETY: callers own the mapping, and nothing points into it any more.
    let answer = unsafe { libc::munmap(base as *mut _, bytes) };
    debug_assert_eq!(answer, 0, "our own mapping: {}", io::Error::last_os_error());
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const _: () =
    assert!(size_of::<Header>() + TOP_FRAMES <= PAGE, "a header leaves room for frames in the top page");
