//! What sanitizers and valgrind must be told of stacks that a program makes itself. Only with the feature `sanitize`.
//!
//! | tool | what it is told | what it would say otherwise |
//! |---|---|---|
//! | AddressSanitizer | before and after each switch, on which stack things go on; which stacks nobody uses | that frames overflow; nothing of dead stacks |
//! | LeakSanitizer | that slabs hold references | that suspended coroutines' memory is lost |
//! | ThreadSanitizer | that each coroutine is a fiber, and each switch one of fibers | nothing that makes sense: its stack of calls is broken |
//! | valgrind | where each stack is | that memory is not defined: it takes a switch for a call |
//!
//! The sanitizers' functions are in the programs that are built for them, and in no others: they are weak symbols here. What is for valgrind
//! is a sequence of instructions without effect, which it knows. So the feature is harmless where none of them watches, and slow everywhere.
//!
//! A coroutine that ends does not say so to AddressSanitizer, which keeps what it has for the frames of each where it looks for uses after a
//! return: many coroutines want `ASAN_OPTIONS=detect_stack_use_after_return=0`.

use std::ffi::c_void;
use std::mem::zeroed;
use std::ptr::{null, null_mut};

use super::{Context, Header, arch, registry};

/// What ThreadSanitizer calls a flow of control that is not running. None: null.
#[derive(Debug)]
pub(super) struct Fiber(*mut c_void);

impl Default for Fiber {
    fn default() -> Fiber {
        Fiber(null_mut())
    }
}

/// The function of a sanitizer, if this program has one.
macro_rules! function {
    ($name:literal as $signature:ty) => {{
        let address: usize;
        // SAFETY: reads what the linker has put into the table of addresses: 0, for a weak symbol that nobody defines.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            core::arch::asm!(
                concat!(".weak ", $name),
                concat!("mov {}, qword ptr [rip + ", $name, "@GOTPCREL]"),
                out(reg) address, options(nostack, preserves_flags, readonly, pure),
            );
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            core::arch::asm!(
                concat!(".weak ", $name),
                concat!("adrp {0}, :got:", $name),
                concat!("ldr {0}, [{0}, :got_lo12:", $name, "]"),
                out(reg) address, options(nostack, preserves_flags, readonly, pure),
            );
        }
        // SAFETY: the sanitizers' common interface gives it this signature.
        (address != 0).then(|| unsafe { std::mem::transmute::<usize, $signature>(address) })
    }};
}

/// As [`arch::switch`].
///
/// # Safety
/// As for that.
#[inline(always)]
pub unsafe fn switch(from: *mut Context, to: *const Context) {
    let mut frames = null_mut();
    // SAFETY: the caller's promise; both contexts are whole but for the registers of `from`, and what is told is what happens next.
    unsafe {
        depart(from, to, &mut frames);
        arch::switch(from, to);
    }
    arrive(frames);
}

/// As [`arch::leave`].
///
/// # Safety
/// As for that.
#[inline(always)]
pub unsafe fn leave(to: *const Context) -> ! {
    // SAFETY: the caller's promise. There is no place for what is kept of this stack's frames, so it is forgotten.
    unsafe {
        depart(null_mut(), to, null_mut());
        arch::leave(to)
    }
}

/// As [`arch::prepare`].
///
/// # Safety
/// As for that.
pub unsafe fn prepare(
    context: *mut Context,
    top: *mut u8,
    entry: unsafe extern "C" fn(*mut u8) -> !,
    argument: *mut u8,
) {
    let first = top.cast::<First>().wrapping_sub(1);
    // SAFETY: nothing uses the stack, which has room for this, and whose end stays aligned.
    unsafe {
        first.write(First { entry, argument });
        arch::prepare(context, first.cast(), begin, first.cast());
        (*context).fiber = Fiber(create_fiber());
    }
}

/// What a new stack begins with, at its top.
#[repr(C, align(16))]
struct First {
    entry: unsafe extern "C" fn(*mut u8) -> !,
    argument: *mut u8,
}

unsafe extern "C" fn begin(first: *mut u8) -> ! {
    arrive(null_mut());
    // SAFETY: `prepare` has put it there.
    unsafe {
        let First { entry, argument } = first.cast::<First>().read();
        entry(argument)
    }
}

/// As [`arch::call_on`].
///
/// # Safety
/// As for that.
pub(super) unsafe fn call_on(top: *mut u8, f: unsafe extern "C" fn(*mut u8), argument: *mut u8) {
    let mut call = Call { f, argument };
    let mut frames = null_mut();
    start_switch(&mut frames, Bounds::of(top.addr() - 1));
    // SAFETY: the caller's promise; `call` is here until this returns.
    unsafe { arch::call_on(top, there, (&raw mut call).cast()) };
    arrive(frames);
}

struct Call {
    f: unsafe extern "C" fn(*mut u8),
    argument: *mut u8,
}

/// # Safety
/// As for `f` of the `Call` that is given.
unsafe extern "C" fn there(call: *mut u8) {
    let home = arrive(null_mut());
    // SAFETY: the caller's promise.
    unsafe {
        let Call { f, argument } = call.cast::<Call>().read();
        f(argument);
    }
    start_switch(null_mut(), home);
}

/// A stack, as AddressSanitizer wants it.
struct Bounds {
    low: *const c_void,
    size: usize,
}

impl Bounds {
    /// The stack that an address is in: a pool's, or else this OS thread's.
    fn of(address: usize) -> Bounds {
        let Some(region) = registry::find(address) else { return Bounds::of_thread() };
        let layout = region.layout;
        let base = address - (address - region.base) % layout.stride();
        Bounds { low: (base + layout.guard) as *const c_void, size: layout.size }
    }

    fn of_thread() -> Bounds {
        let (mut low, mut size) = (null_mut(), 0);
        // SAFETY: all zero is a pthread_attr_t to be filled, and it is destroyed if it was.
        unsafe {
            let mut attributes: libc::pthread_attr_t = zeroed();
            if libc::pthread_getattr_np(libc::pthread_self(), &mut attributes) == 0 {
                libc::pthread_attr_getstack(&attributes, &mut low, &mut size);
                libc::pthread_attr_destroy(&mut attributes);
            }
        }
        Bounds { low, size }
    }
}

/// Says that `to` goes on. `frames` is where AddressSanitizer keeps what it has of this stack's.
///
/// # Safety
/// `to` is whole; `from` is null or writable.
#[inline(always)]
unsafe fn depart(from: *mut Context, to: *const Context, frames: *mut *mut c_void) {
    // SAFETY: the caller's promise.
    let to = unsafe { &*to };
    start_switch(frames, Bounds::of(to.stack_pointer().saturating_sub(1)));
    if let Some(current) = function!("__tsan_get_current_fiber" as unsafe extern "C" fn() -> *mut c_void)
        && let Some(go) = function!("__tsan_switch_to_fiber" as unsafe extern "C" fn(*mut c_void, u32))
    {
        // SAFETY: `to` was made by `prepare`, or was `from` here, on this OS thread; a fiber lives as long as its stack.
        unsafe {
            if !from.is_null() {
                (*from).fiber = Fiber(current());
            }
            go(to.fiber.0, 0);
        }
    }
}

fn start_switch(frames: *mut *mut c_void, next: Bounds) {
    if let Some(start) = function!(
        "__sanitizer_start_switch_fiber" as unsafe extern "C" fn(*mut *mut c_void, *const c_void, usize)
    ) {
        // SAFETY: `frames` is null, or a place that is there until the switch back.
        unsafe { start(frames, next.low, next.size) };
    }
}

/// Says that this stack goes on, and which one has run until now.
fn arrive(frames: *mut c_void) -> Bounds {
    let (mut low, mut size) = (null(), 0);
    if let Some(finish) = function!(
        "__sanitizer_finish_switch_fiber"
            as unsafe extern "C" fn(*mut c_void, *mut *const c_void, *mut usize)
    ) {
        // SAFETY: `frames` came from `start_switch` on this stack, or is null on a new one.
        unsafe { finish(frames, &mut low, &mut size) };
    }
    Bounds { low, size }
}

fn create_fiber() -> *mut c_void {
    let create = function!("__tsan_create_fiber" as unsafe extern "C" fn(u32) -> *mut c_void);
    // SAFETY: takes no pointer.
    create.map_or(null_mut(), |create| unsafe { create(0) })
}

/// A stack has a user. What the frames of the last one have left there is forgotten.
///
/// # Safety
/// The header is that of a slot which nobody else uses.
pub(super) unsafe fn live(header: *mut Header) {
    if let Some(unpoison) =
        function!("__asan_unpoison_memory_region" as unsafe extern "C" fn(*const c_void, usize))
    {
        // SAFETY: the caller's promise.
        unsafe { unpoison((*header).low as *const c_void, header.addr() - (*header).low) };
    }
}

/// A stack has no user any more: whoever touches it is told.
///
/// # Safety
/// The header is that of a slot which nobody uses, or stands on.
pub(super) unsafe fn dead(header: *mut Header) {
    if let Some(poison) =
        function!("__asan_poison_memory_region" as unsafe extern "C" fn(*const c_void, usize))
    {
        // SAFETY: the caller's promise.
        unsafe { poison((*header).low as *const c_void, header.addr() - (*header).low) };
    }
    if let Some(destroy) = function!("__tsan_destroy_fiber" as unsafe extern "C" fn(*mut c_void)) {
        // SAFETY: the caller's promise; a fiber is destroyed once.
        unsafe {
            let Fiber(fiber) = std::mem::take(&mut (*header).context.fiber);
            if !fiber.is_null() {
                destroy(fiber);
            }
        }
    }
}

/// The stacks of a slab, as the tools know them until this is dropped.
pub(super) struct Known {
    base: usize,
    bytes: usize,
    /// valgrind's numbers.
    stacks: Vec<usize>,
}

impl Known {
    pub(super) fn new(base: usize, bytes: usize) -> Known {
        if let Some(register) =
            function!("__lsan_register_root_region" as unsafe extern "C" fn(*const c_void, usize))
        {
            // SAFETY: it is mapped until this is dropped.
            unsafe { register(base as *const c_void, bytes) };
        }
        Known { base, bytes, stacks: Vec::new() }
    }

    /// A slot is used for the first time, by its pool or by a later one of this slab.
    pub(super) fn add(&mut self, place: usize, low: usize, bytes: usize) {
        if place == self.stacks.len() {
            self.stacks.push(ask_valgrind(STACK_REGISTER, low, low + bytes));
        }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        if let Some(unregister) =
            function!("__lsan_unregister_root_region" as unsafe extern "C" fn(*const c_void, usize))
        {
            // SAFETY: as it was registered.
            unsafe { unregister(self.base as *const c_void, self.bytes) };
        }
        if let Some(unpoison) =
            function!("__asan_unpoison_memory_region" as unsafe extern "C" fn(*const c_void, usize))
        {
            // SAFETY: what is mapped there next is not ours.
            unsafe { unpoison(self.base as *const c_void, self.bytes) };
        }
        for stack in self.stacks.drain(..) {
            ask_valgrind(STACK_DEREGISTER, stack, 0);
        }
    }
}

const STACK_REGISTER: usize = 0x1501;
const STACK_DEREGISTER: usize = 0x1502;

/// One of valgrind's client requests, as the third chapter of its manual and its header have them: 0 where it does not watch.
fn ask_valgrind(request: usize, first: usize, second: usize) -> usize {
    let arguments = [request, first, second, 0, 0, 0];
    let mut answer = 0usize;
    // SAFETY: four rotations by 128 bits together, and an exchange of a register with itself. valgrind reads `arguments`.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") &arguments, inout("rdx") answer, inout("rdi") 0usize => _, options(nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "ror x12, x12, #3", "ror x12, x12, #13", "ror x12, x12, #51", "ror x12, x12, #61", "orr x10, x10, x10",
            in("x4") &arguments, inout("x3") answer, inout("x12") 0usize => _, options(nostack),
        );
    }
    answer
}
