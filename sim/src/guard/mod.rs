//! The guard against leaks of determinism: what std and other crates ask the operating system, answered by the world.
//!
//! [`guard!`](crate::guard!) stands once at the top of a test binary, and defines some functions of the C library there. The linker
//! then binds all calls of the program to these. On a simulated thread they are calls of its simulated kernel; on any other they go
//! on to the C library. No other binary notices, so there is no feature to unify.
//!
//! | function | who calls it | on a simulated thread |
//! |---|---|---|
//! | `clock_gettime` | `Instant`, `SystemTime` | its host's clocks; those that measure processors are the monotonic one |
//! | `nanosleep`, `clock_nanosleep` | `thread::sleep` | virtual time passes, and others run |
//! | `getrandom`, `getentropy` | `HashMap`'s seeds, every source of chance | bytes of the seed |
//! | `syscall` with `SYS_futex` | `Mutex`, `RwLock`, `Condvar`, `Once`, `mpsc`, `park`, `Barrier` | the simulated thread sleeps, and others run |
//! | `sched_yield` | `yield_now`, locks that spin | others run |
//! | `pthread_create` | `thread::spawn` | `EAGAIN`, and the run fails: such a thread is outside of the world |
//! | `__cxa_thread_atexit_impl` | thread-locals with a destructor | it runs when the simulated thread ends |
//!
//! **Each simulated thread has thread-locals of its own** (`locals`), fresh ones, as a real thread has. Without that the rest would
//! be worth little: std draws the seed of a thread's `HashMap`s once and then counts on, finds a thread that is parked by the
//! thread-local that says who it is, and tells the threads at a channel apart by the addresses of one.
//!
//! What it does not reach: statics that draw a seed once for the whole program; calls that the C library makes of itself
//! (its own mutexes, `sem_wait`); code that reads the processor's counters. What simulated threads print is not captured by the
//! test harness. Linux on x86-64 with glibc 2.34 or later, as a shared library.
//!
//! **The unsafe code** is two islands. `calls` has the C functions, each as its manual page says. `locals` has the memory of
//! thread-locals.

pub mod calls;
mod here;
pub(crate) mod locals;

use std::sync::atomic::{AtomicBool, Ordering};

static ARMED: AtomicBool = AtomicBool::new(false);

/// Says that this program has the functions. Called before `main`.
#[doc(hidden)]
pub extern "C" fn arm() {
    // Relaxed: no other thread runs yet.
    ARMED.store(true, Ordering::Relaxed);
}

/// Whether this program has a guard.
pub(crate) fn is_armed() -> bool {
    ARMED.load(Ordering::Relaxed)
}

/// What to do about a run that its seed does not determine.
pub(crate) fn advice() -> &'static str {
    if is_armed() {
        return "";
    }
    "\nmachinarium_sim::guard!() at the top of the test binary makes std's clocks, locks, thread-locals and the order of HashMaps \
     a part of the seed, and reports threads that are none"
}

/// Makes std's clocks, sleeps, locks, channels, `HashMap` seeds and thread-locals a part of the simulation, in the test binary at
/// whose top it stands. See [`guard`](mod@crate::guard).
///
/// ```
/// use std::time::Instant;
/// use machinarium_sim::Durations;
///
/// machinarium_sim::guard!();
///
/// fn main() {
///     machinarium_sim::check(|world| {
///         let host = world.host("sleeper").run(|| {
///             let begin = Instant::now();
///             std::thread::sleep(3600.secs());                  // takes no time
///             assert!(begin.elapsed() >= 3600.secs());
///         });
///         world.eventually(4000.secs(), || host.finished());
///     });
/// }
/// ```
#[macro_export]
macro_rules! guard {
    () => {
        #[allow(unsafe_code)]
        const _: () = {
            use ::core::ffi::{c_int, c_long, c_uint, c_void};
            use $crate::guard::calls::{self, Attributes, Destroy, Main, Pthread, timespec};

            #[used]
            // SAFETY: functions there are called once, before `main`, and this one needs nothing.
            #[unsafe(link_section = ".init_array")]
            static ARM: extern "C" fn() = $crate::guard::arm;

            // SAFETY, of all attributes: each has the name and the signature of its manual page, so whoever calls it gets what he expects.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut timespec) -> c_int {
                // SAFETY: the caller's promise, passed on with all that he gave.
                unsafe { calls::clock_gettime(clock, time) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int {
                // SAFETY: the caller's promise, passed on with all that he gave.
                unsafe { calls::nanosleep(time, left) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn clock_nanosleep(
                clock: c_int,
                flags: c_int,
                time: *const timespec,
                left: *mut timespec,
            ) -> c_int {
                // SAFETY: the caller's promise, passed on with all that he gave.
                unsafe { calls::clock_nanosleep(clock, flags, time, left) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
                // SAFETY: the caller's promise, passed on with all that he gave.
                unsafe { calls::getrandom(buffer, length, flags) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn getentropy(buffer: *mut c_void, length: usize) -> c_int {
                // SAFETY: the caller's promise, passed on with all that he gave.
                unsafe { calls::getentropy(buffer, length) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn sched_yield() -> c_int {
                calls::sched_yield()
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn pthread_create(
                thread: *mut Pthread,
                attributes: *const Attributes,
                main: Main,
                argument: *mut c_void,
            ) -> c_int {
                // SAFETY: the caller's promise, passed on with all that he gave.
                unsafe { calls::pthread_create(thread, attributes, main, argument) }
            }
            // The C library's takes any number of arguments, and passes six on, whatever they are.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn syscall(
                number: c_long,
                a: usize,
                b: usize,
                c: usize,
                d: usize,
                e: usize,
                f: usize,
            ) -> c_long {
                // SAFETY: the caller's promise, passed on with all that he gave.
                unsafe { calls::syscall(number, [a, b, c, d, e, f]) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn __cxa_thread_atexit_impl(
                destroy: Destroy,
                object: *mut c_void,
                module: *mut c_void,
            ) -> c_int {
                // SAFETY: the caller's promise, passed on with all that he gave.
                unsafe { calls::thread_atexit(destroy, object, module) }
            }
        };
    };
}
