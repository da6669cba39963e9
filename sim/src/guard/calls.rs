//! The C functions of the guard: each asks whether a simulated thread calls, and else calls the C library's own.
//!
//! Owns nothing. Every function here has the contract of its manual page: its caller passes pointers as that says.

use std::ffi::{CStr, c_int, c_long, c_uint, c_void};
use std::io::Write as _;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

pub use libc::{pthread_attr_t as Attributes, pthread_t as Pthread, timespec};
use machinarium::kernel::{Clock, Errno};

use super::here::Here;
use super::locals::Ending;
use crate::outside;

/// What a thread of the C library runs.
pub type Main = extern "C" fn(*mut c_void) -> *mut c_void;
/// What destroys a thread-local.
pub type Destroy = unsafe extern "C" fn(*mut c_void);

/// The function of this name that a program without a guard would call.
macro_rules! real {
    ($name:literal as $signature:ty) => {{
        static PLACE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
        // SAFETY: the signature is that of the function's manual page.
        unsafe { std::mem::transmute::<*mut c_void, $signature>(behind_us(&PLACE, $name)) }
    }};
}

fn behind_us(place: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    // Relaxed: whoever finds it finds the same, and it points to code.
    let known = place.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    // SAFETY: `dlsym(3)`; the name is a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if found.is_null() {
        let _ =
            writeln!(std::io::stderr(), "machinarium-sim: the guard needs a shared C library, with {name:?}");
        std::process::abort();
    }
    place.store(found, Ordering::Relaxed);
    found
}

/// # Safety
/// `clock_gettime(2)`.
pub unsafe fn clock_gettime(clock: c_int, time: *mut timespec) -> c_int {
    let (Some(kind), Some(here)) = (clock_of(clock), Here::find()) else {
        let real = real!(c"clock_gettime" as unsafe extern "C" fn(c_int, *mut timespec) -> c_int);
        // SAFETY: the caller's promise.
        return unsafe { real(clock, time) };
    };
    let now = here.clock(kind) - machinarium::kernel::Instant::from_nanos(0);
    // SAFETY: the caller's promise.
    unsafe { time.write(to_timespec(now)) };
    0
}

/// # Safety
/// `nanosleep(2)`.
pub unsafe fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int {
    let Some(here) = Here::find() else {
        let real = real!(c"nanosleep" as unsafe extern "C" fn(*const timespec, *mut timespec) -> c_int);
        // SAFETY: the caller's promise.
        return unsafe { real(time, left) };
    };
    // SAFETY: the caller's promise.
    match unsafe { sleep(&here, time, left) } {
        Ok(()) => 0,
        Err(errno) => fail(errno),
    }
}

/// # Safety
/// `clock_nanosleep(2)`.
pub unsafe fn clock_nanosleep(
    clock: c_int,
    flags: c_int,
    time: *const timespec,
    left: *mut timespec,
) -> c_int {
    let (Some(kind), Some(here)) = (clock_of(clock), Here::find()) else {
        let real = real!(
            c"clock_nanosleep" as unsafe extern "C" fn(c_int, c_int, *const timespec, *mut timespec) -> c_int
        );
        // SAFETY: the caller's promise.
        return unsafe { real(clock, flags, time, left) };
    };
    let answer = if flags & libc::TIMER_ABSTIME == 0 {
        // SAFETY: the caller's promise.
        unsafe { sleep(&here, time, left) }
    } else {
        // SAFETY: the caller's promise.
        match from_timespec(unsafe { time.read() }) {
            Some(until) => here.sleep(until_then(&here, kind, until)).map_err(|_| Errno::INTR),
            None => Err(Errno::INVAL),
        }
    };
    answer.map_or_else(|errno| errno.raw(), |()| 0)
}

/// Sleeps for `time`.
///
/// # Safety
/// As for `nanosleep(2)`: `time` can be read, and `left` is null or can be written.
unsafe fn sleep(here: &Here, time: *const timespec, left: *mut timespec) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    let duration = from_timespec(unsafe { time.read() }).ok_or(Errno::INVAL)?;
    here.sleep(duration).map_err(|rest| {
        if !left.is_null() {
            // SAFETY: the caller's promise.
            unsafe { left.write(to_timespec(rest)) };
        }
        Errno::INTR
    })
}

/// # Safety
/// `getrandom(2)`.
pub unsafe fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    let Some(here) = Here::find() else {
        let real = real!(c"getrandom" as unsafe extern "C" fn(*mut c_void, usize, c_uint) -> isize);
        // SAFETY: the caller's promise.
        return unsafe { real(buffer, length, flags) };
    };
    // SAFETY: the caller's promise; what is there may be uninitialised, so it is made something first.
    let buffer = unsafe {
        buffer.cast::<u8>().write_bytes(0, length);
        std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length)
    };
    here.random(buffer);
    length.cast_signed()
}

/// # Safety
/// `getentropy(3)`.
pub unsafe fn getentropy(buffer: *mut c_void, length: usize) -> c_int {
    if length > 256 {
        return fail(Errno::IO);
    }
    // SAFETY: the caller's promise; so much is never short.
    if unsafe { getrandom(buffer, length, 0) } < 0 { -1 } else { 0 }
}

/// `sched_yield(2)`.
pub fn sched_yield() -> c_int {
    let Some(here) = Here::find() else {
        let real = real!(c"sched_yield" as unsafe extern "C" fn() -> c_int);
        // SAFETY: it takes nothing.
        return unsafe { real() };
    };
    here.give_way();
    0
}

/// # Safety
/// `pthread_create(3)`.
pub unsafe fn pthread_create(
    thread: *mut Pthread,
    attributes: *const Attributes,
    main: Main,
    argument: *mut c_void,
) -> c_int {
    if let Some(here) = Here::find() {
        here.stray_thread();
        return libc::EAGAIN;
    }
    type Create = unsafe extern "C" fn(*mut Pthread, *const Attributes, Main, *mut c_void) -> c_int;
    let real = real!(c"pthread_create" as Create);
    // SAFETY: the caller's promise.
    unsafe { real(thread, attributes, main, argument) }
}

/// # Safety
/// What the C++ ABI says of `__cxa_thread_atexit`: `destroy` may be called with `object` when this thread ends.
pub unsafe fn thread_atexit(destroy: Destroy, object: *mut c_void, module: *mut c_void) -> c_int {
    if let Some(lent) = outside::lent() {
        lent.endings.borrow_mut().push(Ending { destroy, object });
        return 0;
    }
    type AtExit = unsafe extern "C" fn(Destroy, *mut c_void, *mut c_void) -> c_int;
    let real = real!(c"__cxa_thread_atexit_impl" as AtExit);
    // SAFETY: the caller's promise.
    unsafe { real(destroy, object, module) }
}

/// # Safety
/// `syscall(2)`: as the manual page of the call with this number. What that does not take may be anything.
pub unsafe fn syscall(number: c_long, arguments: [usize; 6]) -> c_long {
    if let Some(here) = Here::find() {
        let answer = match number {
            // SAFETY: the caller's promise.
            libc::SYS_futex => unsafe { futex(&here, arguments) },
            libc::SYS_getrandom => {
                let [buffer, length, flags, ..] = arguments;
                // SAFETY: the caller's promise.
                return unsafe { getrandom(buffer as *mut c_void, length, flags as c_uint) } as c_long;
            }
            _ => None,
        };
        match answer {
            Some(Ok(answer)) => return answer,
            Some(Err(errno)) => return fail(errno).into(),
            None => {}
        }
    }
    // SAFETY: the caller's promise.
    unsafe { real_syscall(number, arguments) }
}

/// # Safety
/// As for [`syscall`].
unsafe fn real_syscall(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> c_long {
    let real = real!(c"syscall" as unsafe extern "C" fn(c_long, ...) -> c_long);
    // SAFETY: the caller's promise.
    unsafe { real(number, a, b, c, d, e, f) }
}

/// A call of `futex(2)`. `None`: one of an operation that the simulation does not have.
///
/// # Safety
/// `futex(2)`.
unsafe fn futex(here: &Here, arguments: [usize; 6]) -> Option<Result<c_long, Errno>> {
    let [address, operation, value, timeout, _, bits] = arguments;
    let clock = operation as c_int & libc::FUTEX_CLOCK_REALTIME;
    let clock = if clock == 0 { Clock::Monotonic } else { Clock::Realtime };
    let command = operation as c_int & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
    let all = bits as u32 == u32::MAX;
    let timeout = || match timeout as *const timespec {
        null if null.is_null() => Ok(None),
        // SAFETY: the caller's promise.
        timeout => from_timespec(unsafe { timeout.read() }).map(Some).ok_or(Errno::INVAL),
    };
    let timeout = match command {
        libc::FUTEX_WAKE => return Some(Ok(wake(here, address, value as u32))),
        libc::FUTEX_WAKE_BITSET if all => return Some(Ok(wake(here, address, value as u32))),
        libc::FUTEX_WAIT => timeout(),
        libc::FUTEX_WAIT_BITSET if all => {
            timeout().map(|until| until.map(|until| until_then(here, clock, until)))
        }
        _ => return None,
    };
    // SAFETY: the caller's promise: a word that lives during the call, and that is only changed atomically.
    let word = unsafe { AtomicU32::from_ptr(address as *mut u32) };
    let answer = timeout.and_then(|timeout| wait(here, word, value as u32, timeout));
    Some(answer.map(|()| 0))
}

/// Wakes simulated threads, and then others: a lock may be of the whole program.
fn wake(here: &Here, address: usize, count: u32) -> c_long {
    let woken = here.futex_wake(address, count);
    let rest = (count as usize).saturating_sub(woken);
    let woken = woken as c_long;
    if rest == 0 {
        return woken;
    }
    let wake = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: `futex(2)` with FUTEX_WAKE takes an address for its name, and looks at nothing there.
    woken + unsafe { real_syscall(libc::SYS_futex, [address, wake, rest, 0, 0, 0]) }.max(0)
}

/// How long a lock of the whole program is waited for in real time, before the simulated thread sleeps.
const REAL: Duration = Duration::from_millis(1);
/// How long it sleeps then, and how often: somebody outside of the world who lets go of the lock does not wake it.
const SLICE: Duration = Duration::from_millis(10);
const SLICES: u32 = 100;

/// Sleeps until another simulated thread wakes this one. A word in a static may be of the whole program (std has some:
/// the lock of stdout, of the environment), and whoever has it be another OS thread, so such a word gets a little real time first,
/// of which the world notices nothing.
fn wait(here: &Here, word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Result<(), Errno> {
    if timeout.is_none() && is_static(word) {
        for _ in 0..SLICES {
            if changes(word, expected) {
                return Ok(());
            }
            match here.futex_wait(word, expected, Some(SLICE)) {
                Err(Errno::TIMEDOUT) => {}
                answer => return answer,
            }
        }
    }
    here.futex_wait(word, expected, timeout)
}

/// Whether the word lies in a static.
fn is_static(word: &AtomicU32) -> bool {
    // SAFETY: `dladdr(3)` takes any address, and fills in what can be anything before.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        libc::dladdr(word.as_ptr().cast::<c_void>(), &mut info) != 0
    }
}

/// Waits in real time. Whether somebody has changed the word.
fn changes(word: &AtomicU32, expected: u32) -> bool {
    let wait = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
    let timeout = to_timespec(REAL);
    let arguments = [
        word.as_ptr().expose_provenance(),
        wait,
        expected as usize,
        (&raw const timeout).expose_provenance(),
        0,
        0,
    ];
    // SAFETY: `futex(2)` with FUTEX_WAIT: the word and the timeout live during the call.
    unsafe { real_syscall(libc::SYS_futex, arguments) };
    // Relaxed: whoever waits looks again, with the ordering that it needs.
    word.load(Ordering::Relaxed) != expected
}

/// Which of the two clocks of a host stands for this one. `None`: it is another process's, or a device's.
fn clock_of(clock: c_int) -> Option<Clock> {
    match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_TAI => Some(Clock::Realtime),
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_BOOTTIME
        | libc::CLOCK_PROCESS_CPUTIME_ID
        | libc::CLOCK_THREAD_CPUTIME_ID => Some(Clock::Monotonic),
        _ => None,
    }
}

/// How long it is until `clock` shows `time`.
fn until_then(here: &Here, clock: Clock, time: Duration) -> Duration {
    time.saturating_sub(here.clock(clock) - machinarium::kernel::Instant::from_nanos(0))
}

fn to_timespec(duration: Duration) -> timespec {
    let seconds = libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX);
    timespec { tv_sec: seconds, tv_nsec: duration.subsec_nanos().into() }
}

/// `None`: negative, or with too many nanoseconds.
fn from_timespec(time: timespec) -> Option<Duration> {
    let nanos = u32::try_from(time.tv_nsec).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, nanos))
}

/// What a call answers that fails.
fn fail(errno: Errno) -> c_int {
    // SAFETY: this thread's own.
    unsafe { *libc::__errno_location() = errno.raw() };
    -1
}
