//! A stack that overflows says whose it is, and the process aborts.
//!
//! Owns the handler of SIGSEGV and SIGBUS, installed once for the OS process, and each machine thread's alternate
//! stack, on which it runs. What it does with a fault:
//!
//! | address | stack pointer | |
//! |---|---|---|
//! | in a guard | in that slot | the coroutine has overflowed: report, abort |
//! | in a guard | elsewhere | a frame that went over the whole guard, or a stray pointer: report that, abort |
//! | elsewhere | | what was installed before decides (std's handler, as a rule) |
//!
//! The report's first lines are made by `write(2)` alone. The backtrace after them allocates and takes locks, which the
//! overflow may have happened inside of, so an alarm (or a second fault) ends that after `PATIENCE`. The unwinder walks from the
//! handler through the signal's frame into the coroutine, by unwind tables: no frame pointers are needed. Nothing is ever
//! resumed: the handler does not return into a stack that has overflowed.
//!
//! In the same way [`Target::abort`] and [`abort_with`] end a process one of whose threads is stuck: that thread is sent a signal.

use std::fmt::{self, Write};
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::{Once, OnceLock};

use super::registry::{self, Region};
use super::slab::{map, unmap};
use super::{Header, slab::page};

/// Bytes of an alternate stack: std's backtrace needs some tens of KiB. Only what is touched costs memory.
const ALTERNATE: usize = 256 << 10;
/// Seconds that a backtrace may take.
const PATIENCE: u32 = 2;
/// Lines of the backtrace that are printed: an overflow's is long, and its innermost frames say enough.
const LINES: usize = 80;

/// What was installed before us, for SIGSEGV and SIGBUS.
static PREVIOUS: [OnceLock<libc::sigaction>; 2] = [OnceLock::new(), OnceLock::new()];

/// Installs the handler, once for the OS process. A handler that others install later comes first, and reaches this
/// one if it passes on what is not its own.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        install_one(libc::SIGSEGV, &PREVIOUS[0]);
        install_one(libc::SIGBUS, &PREVIOUS[1]);
    });
}

fn install_one(signal: libc::c_int, previous: &OnceLock<libc::sigaction>) {
    // SAFETY: an all-zero sigaction is valid to be filled; `handler` has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut old: libc::sigaction = zeroed();
        if libc::sigaction(signal, std::ptr::null(), &mut old) != 0 {
            return;
        }
        // Known before the handler can run.
        let _ = previous.set(old);
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(signal, &action, null_mut());
    }
}

/// This OS thread's alternate signal stack, with a guard of its own, until dropped. std gives its threads one too, but too
/// small for a backtrace; dropping this puts it back.
#[derive(Debug)]
pub struct AltStack {
    /// 0: there is none.
    base: usize,
    previous: libc::stack_t,
}

impl AltStack {
    /// Gives this thread the stack. If the kernel has no memory for it, the thread keeps what it has.
    pub fn new() -> AltStack {
        // SAFETY: all-zero is a valid stack_t to be filled.
        let mut previous: libc::stack_t = unsafe { zeroed() };
        let Ok(base) = map(page() + ALTERNATE) else { return AltStack { base: 0, previous } };
        let stack = libc::stack_t { ss_sp: (base + page()) as *mut _, ss_flags: 0, ss_size: ALTERNATE };
        // SAFETY: the mapping is ours, and stays until `drop` has put the previous stack back.
        let answer = unsafe {
            libc::mprotect(base as *mut _, page(), libc::PROT_NONE);
            libc::sigaltstack(&stack, &mut previous)
        };
        if answer != 0 {
            unmap(base, page() + ALTERNATE);
            return AltStack { base: 0, previous };
        }
        AltStack { base, previous }
    }
}

impl Default for AltStack {
    fn default() -> AltStack {
        AltStack::new()
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        if self.base == 0 {
            return;
        }
        // SAFETY: puts back what `new` found. (`stack_t` holds a pointer, so this is dropped on the thread that made it.)
        let answer = unsafe { libc::sigaltstack(&self.previous, null_mut()) };
        // In use by a handler on this thread: then the mapping stays.
        if answer == 0 {
            unmap(self.base, page() + ALTERNATE);
        }
    }
}

unsafe extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel calls a handler of SA_SIGINFO with a valid siginfo.
    let address = unsafe { (*info).si_addr() } as usize;
    if let Some(fault) = Fault::of(address) {
        // SAFETY: and with a valid ucontext.
        fault.report(unsafe { stack_pointer(context) });
        backtrace();
        // SAFETY: abort is async-signal-safe.
        unsafe { libc::abort() };
    }
    // SAFETY: the arguments are the kernel's.
    unsafe { pass_on(signal, info, context) };
}

/// # Safety
/// `context` is what the kernel gave a handler.
#[cfg(target_arch = "x86_64")]
unsafe fn stack_pointer(context: *mut libc::c_void) -> usize {
    // SAFETY: the caller's promise.
    unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RSP as usize] as usize }
}

/// # Safety
/// `context` is what the kernel gave a handler.
#[cfg(target_arch = "aarch64")]
unsafe fn stack_pointer(context: *mut libc::c_void) -> usize {
    // SAFETY: the caller's promise.
    unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.sp as usize }
}

/// A stack with its guard, and whose it is.
struct Slot {
    base: usize,
    region: Region,
    header: &'static Header,
}

impl Slot {
    /// The one that an address is in.
    fn of(address: usize) -> Option<Slot> {
        let region = registry::find(address)?;
        let place = (address - region.base) / region.layout.stride();
        let base = region.base + place * region.layout.stride();
        let header = region.layout.header(base, region.first + place as u32) as *const Header;
        // SAFETY: the control block of a slot of a mapped slab: zeroes, or a header. Its coroutine is this thread's, and does
        // not run on, so nobody changes it. (Another thread's, by a stray pointer: a torn name at worst.)
        Some(Slot { base, region, header: unsafe { &*header } })
    }
}

/// An access to a guard.
struct Fault {
    address: usize,
    slot: Slot,
}

impl Fault {
    fn of(address: usize) -> Option<Fault> {
        let slot = Slot::of(address)?;
        (address - slot.base < slot.region.layout.guard).then_some(Fault { address, slot })
    }

    fn report(&self, sp: usize) {
        let Slot { base, region, header } = &self.slot;
        let (low, high) = (base + region.layout.guard, base + region.layout.stride());
        let (id, name, size) = (header.id, header.name(), (high - low) >> 10);
        let mut out = Line::new();
        let _ = if (*base..high).contains(&sp) {
            writeln!(
                out,
                "\ncoroutine {id} '{name}' overflowed its stack of {size} KiB [{low:#x}, {high:#x})"
            )
        } else {
            writeln!(
                out,
                "\nthe guard below the stack of coroutine {id} '{name}' of {size} KiB [{low:#x}, {high:#x}) was hit \
                 from elsewhere: by a frame larger than the guard, or by a stray pointer"
            )
        };
        let _ = writeln!(
            out,
            "address {:#x}, stack pointer {sp:#x}; make stacks larger with {}",
            self.address,
            if region.layout.big { "big_stack_size" } else { "stack_size, or go to a big one: on_big_stack" }
        );
    }
}

/// Ends the process with a backtrace of another of its OS threads, which runs or blocks without end. That thread prints what
/// `tell` tells, and its backtrace; if it cannot, the process ends all the same.
pub fn abort_with(thread: libc::pid_t, tell: Tell) -> ! {
    let _ = TELL.set(tell);
    // SAFETY: all-zero is a valid sigaction, and `interrogated` has the signature of a handler. The thread is of this
    // process, or gone, which tgkill says.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = interrogated as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK;
        libc::sigaction(libc::SIGUSR2, &action, null_mut());
        libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGUSR2);
        // It aborts long before, by itself or by the alarm.
        libc::sleep(2 * PATIENCE);
        libc::abort()
    }
}

/// What a thread that is interrogated tells of itself, before its backtrace.
pub type Tell = fn(&mut dyn Write);

static TELL: OnceLock<Tell> = OnceLock::new();

/// On the thread that is asked, wherever it is: it may hold any lock, so an alarm ends this.
unsafe extern "C" fn interrogated(_signal: libc::c_int) {
    limit_time();
    if let Some(tell) = TELL.get() {
        tell(&mut Line::new());
    }
    print_backtrace();
    // SAFETY: abort is async-signal-safe.
    unsafe { libc::abort() };
}

/// Prints where the fault was, if that can be had.
fn backtrace() {
    limit_time();
    print_backtrace();
}

/// From now on an alarm, or another fault, ends the process.
fn limit_time() {
    // SAFETY: async-signal-safe calls. A second fault is as likely as a lock that is taken: the stack is a broken one.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = give_up as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK;
        let mut unblocked: libc::sigset_t = zeroed();
        for signal in [libc::SIGALRM, libc::SIGSEGV, libc::SIGBUS] {
            libc::sigaction(signal, &action, null_mut());
            libc::sigaddset(&mut unblocked, signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &unblocked, null_mut());
        libc::alarm(PATIENCE);
    }
}

fn print_backtrace() {
    let _ =
        write!(Lines { left: LINES, line: Line::new() }, "{}", std::backtrace::Backtrace::force_capture());
}

unsafe extern "C" fn give_up(signal: libc::c_int) {
    let why = if signal == libc::SIGALRM { "it took too long" } else { "it met broken memory" };
    let _ = writeln!(Line::new(), "(no more of the backtrace: {why})");
    // SAFETY: async-signal-safe.
    unsafe { libc::abort() };
}

/// An OS thread that can be made to say where it is, as the last thing that its process does.
#[derive(Clone, Copy, Debug)]
pub struct Target(libc::pthread_t);

impl Target {
    /// This thread.
    pub fn here() -> Target {
        // SAFETY: always succeeds.
        Target(unsafe { libc::pthread_self() })
    }

    /// Has the thread, which must not have ended, print which coroutine runs on it, and its backtrace, whatever it runs; then aborts the process.
    pub fn abort(self) -> ! {
        // SAFETY: the handler has the signature that SA_SIGINFO asks for; it never returns. If the thread cannot answer (it
        // sleeps in a call that no signal ends), the alarm of this thread's own patience ends the process.
        unsafe {
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = say_where as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGABRT, &action, null_mut());
            libc::pthread_kill(self.0, libc::SIGABRT);
            libc::sleep(2 * PATIENCE);
            libc::signal(libc::SIGABRT, libc::SIG_DFL);
            libc::abort()
        }
    }
}

unsafe extern "C" fn say_where(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: what abort does from here on is what it does by default; the context is the kernel's.
    let sp = unsafe {
        libc::signal(libc::SIGABRT, libc::SIG_DFL);
        stack_pointer(context)
    };
    // Before the backtrace, which may fail.
    let _ = match Slot::of(sp) {
        Some(Slot { header, .. }) => writeln!(Line::new(), "coroutine {} '{}'", header.id, header.name()),
        None => writeln!(Line::new(), "no coroutine: the machine itself"),
    };
    backtrace();
    // SAFETY: async-signal-safe.
    unsafe { libc::abort() };
}

/// Formats into a buffer of its own, which goes to standard error at each end of a line. Allocates nothing.
struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Line {
    fn new() -> Line {
        Line { bytes: [0; 512], len: 0 }
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
        if byte == b'\n' || self.len == self.bytes.len() {
            // SAFETY: initialised bytes. What standard error does not take is lost.
            unsafe { libc::write(2, self.bytes.as_ptr().cast(), self.len) };
            self.len = 0;
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

/// The first lines of a long text.
struct Lines {
    left: usize,
    line: Line,
}

impl Write for Lines {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.line.push(byte);
            if byte == b'\n' {
                self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            }
        }
        Ok(())
    }
}

/// Does with a fault what would have been done without us.
///
/// # Safety
/// The arguments are those of the signal being handled.
unsafe fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS[usize::from(signal == libc::SIGBUS)].get();
    match previous.map(|action| (action.sa_sigaction, action.sa_flags & libc::SA_SIGINFO)) {
        // The default ends the process when the instruction faults again. To ignore a fault is not possible.
        None | Some((libc::SIG_DFL | libc::SIG_IGN, _)) => {
            // SAFETY: async-signal-safe.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Some((function, 0)) => {
            // SAFETY: a handler installed without SA_SIGINFO has this type.
            unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(function)(signal) };
        }
        Some((function, _)) => {
            type Handler = unsafe extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: a handler installed with SA_SIGINFO has this type.
            unsafe { std::mem::transmute::<usize, Handler>(function)(signal, info, context) };
        }
    }
}
