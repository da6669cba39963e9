//! The thread-locals of a simulated thread: a block of memory of its own, to which the thread pointer leads while it runs.
//!
//! On x86-64 the register `fs` leads to the record that the C library has of a thread, and below that lie the thread-locals of
//! the program and of the libraries it was loaded with, at the same distances in every thread:
//!
//! ```text
//!                                             fs
//!      | libraries | the program's locals | padding | the C library's record |
//! ```
//!
//! A simulated thread gets a copy of all that, in which the program's part is what the linker has laid down for new threads. So
//! its thread-locals are fresh and have addresses of their own, by which std and others tell threads apart. The C library's record still says
//! which thread of the system this is: for the kernel and the C library it is the same one, and shares its caches and keys.
//!
//! **What the unsafe code rests on.** (1) `enter` and `leave` alternate, around the one switch in `Strand::resume`, and
//! between them and the switch no thread-local is used but by `asm!` of our own: so an address that the compiler has kept belongs to whoever uses
//! it. (2) A block is given back only when nothing is suspended on its strand. (3) Distances and sizes are those that the loader tells.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use crate::guard;
use crate::outside::{self, Lent, Outside};

/// Thread-locals with a destructor, in the order in which they were first used.
pub(crate) type Endings = RefCell<Vec<Ending>>;

/// A destructor, and what it destroys.
pub(crate) struct Ending {
    pub(crate) destroy: unsafe extern "C" fn(*mut c_void),
    pub(crate) object: *mut c_void,
}

/// See the head of the file.
pub(crate) struct Locals {
    block: *mut u8,
    layout: Layout,
    /// Where `fs` leads while the thread runs.
    pointer: *mut u8,
    /// Where it led before.
    outer: Cell<*mut u8>,
    endings: Endings,
}

/// The record begins with its own address, and then where thread-locals of libraries are that were loaded later.
const LOADED_LATER: usize = size_of::<usize>();

impl Locals {
    /// Those of a new thread. `None`: this program has no guard, so all simulated threads have the OS thread's.
    ///
    /// # Panics
    /// If the guard cannot work here.
    pub(crate) fn fresh() -> Option<Box<Locals>> {
        if !guard::is_armed() {
            return None;
        }
        let plan = Plan::of_this_program();
        let below = plan.below.next_multiple_of(plan.align);
        let layout = Layout::from_size_align(below + plan.record, plan.align).expect("a small block");
        // SAFETY: the layout is not empty.
        let block = unsafe { alloc(layout) };
        if block.is_null() {
            handle_alloc_error(layout);
        }
        let locals = Box::new(Locals {
            block,
            layout,
            pointer: block.wrapping_add(below),
            outer: Cell::new(std::ptr::null_mut()),
            endings: Endings::default(),
        });
        let outside = outside::with(std::ptr::from_ref::<Outside>);
        let endings = std::ptr::from_ref(&locals.endings);
        // SAFETY: invariant 3: everything lies within the block, and what is read within this thread's. Nobody uses the new
        // block yet. The references in it are used by its thread alone, which runs while both live: `outside` is the OS thread's.
        unsafe {
            let pointer = locals.pointer;
            let here = thread_pointer();
            pointer.sub(plan.below).copy_from_nonoverlapping(here.sub(plan.below), plan.below + plan.record);
            pointer.cast::<*mut u8>().write(pointer);
            let program = pointer.sub(plan.program);
            program.write_bytes(0, plan.length);
            program.copy_from_nonoverlapping(plan.template.as_ptr(), plan.template.len());
            let lent = Lent { outside: &*outside, endings: &*endings };
            pointer.sub(plan.lent).cast::<outside::Place>().write(Cell::new(Some(lent)));
        }
        Some(locals)
    }

    /// The thread is about to run.
    #[inline(never)]
    pub(crate) fn enter(&self) {
        let outer = thread_pointer();
        self.outer.set(outer);
        // SAFETY: invariants 1 and 3.
        unsafe {
            hand_over(outer, self.pointer);
            set_thread_pointer(self.pointer);
        }
    }

    /// It does not run any more.
    #[inline(never)]
    pub(crate) fn leave(&self) {
        let outer = self.outer.get();
        // SAFETY: invariants 1 and 3; the OS thread's own block lives as long as that.
        unsafe {
            hand_over(self.pointer, outer);
            set_thread_pointer(outer);
        }
    }
}

impl Drop for Locals {
    fn drop(&mut self) {
        // SAFETY: it was allocated so, and is dropped once; invariant 2.
        unsafe { dealloc(self.block, self.layout) };
    }
}

/// Destroys the thread-locals of the simulated thread that ends, the last first. Called on it.
pub(crate) fn end() {
    let Some(lent) = outside::lent() else { return };
    // A destructor may use others for the first time.
    while let Some(ending) = { lent.endings.borrow_mut().pop() } {
        // SAFETY: whoever registered them promised that the one may be called for the other when the thread ends.
        unsafe { (ending.destroy)(ending.object) };
    }
}

/// Where `fs` leads.
#[cfg(target_arch = "x86_64")]
fn thread_pointer() -> *mut u8 {
    let pointer;
    // SAFETY: reads the first word of the record, which is its address.
    unsafe {
        core::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) pointer, options(nostack, preserves_flags, readonly));
    }
    pointer
}

/// # Safety
/// There is a record with all that belongs to it.
#[cfg(target_arch = "x86_64")]
unsafe fn set_thread_pointer(pointer: *mut u8) {
    // SAFETY: the caller's promise; `Plan` has seen that programs may do this.
    unsafe { core::arch::asm!("wrfsbase {}", in(reg) pointer, options(nostack, preserves_flags)) };
}

/// On other processors things lie elsewhere: [`Plan::make`] has refused.
#[cfg(not(target_arch = "x86_64"))]
fn thread_pointer() -> *mut u8 {
    unreachable!("there is no plan for this processor")
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn set_thread_pointer(_pointer: *mut u8) {
    unreachable!("there is no plan for this processor")
}

/// Both know the same libraries that were loaded later: the C library may replace its list of them whenever one is.
///
/// # Safety
/// Both are records.
unsafe fn hand_over(from: *mut u8, to: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { to.add(LOADED_LATER).cast::<usize>().write(from.add(LOADED_LATER).cast::<usize>().read()) };
}

/// What a block is made of, in distances below the thread pointer, and sizes.
#[derive(Clone, Copy)]
struct Plan {
    /// The lowest thread-local.
    below: usize,
    align: usize,
    /// The program's part begins here, and is so long.
    program: usize,
    length: usize,
    /// What that begins with in a new thread; the rest is zeros.
    template: &'static [u8],
    /// Where the simulator's own is.
    lent: usize,
    /// The size of the C library's record.
    record: usize,
}

/// No library with thread-locals lies further below the thread pointer than this, if it was loaded with the program.
const FAR: usize = 1 << 20;

impl Plan {
    fn of_this_program() -> &'static Plan {
        static PLAN: OnceLock<Plan> = OnceLock::new();
        PLAN.get_or_init(|| Plan::make().unwrap_or_else(|why| panic!("the guard cannot work here: {why}")))
    }

    fn make() -> Result<Plan, &'static str> {
        if cfg!(not(target_arch = "x86_64")) {
            return Err("it knows where thread-locals lie on x86-64 only");
        }
        const FSGSBASE: u64 = 1 << 1;
        // SAFETY: `getauxval(3)`.
        if unsafe { libc::getauxval(libc::AT_HWCAP2) } & FSGSBASE == 0 {
            return Err("this system does not let programs set the thread pointer (Linux 5.9 does)");
        }
        // SAFETY: `dlsym(3)`. What debuggers read it for: the size of the record, as a u32.
        let record = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_thread_db_sizeof_pthread".as_ptr()) };
        if record.is_null() {
            return Err("it needs glibc 2.34, as a shared library");
        }
        let mut plan = Plan {
            below: 0,
            align: 64,
            program: 0,
            length: 0,
            template: &[],
            lent: thread_pointer().addr() - outside::place().addr(),
            // SAFETY: as above.
            record: unsafe { record.cast::<u32>().read() } as usize,
        };
        // SAFETY: `look` is of the signature that is wanted, and gets the pointer to `plan`, which outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut plan).cast()) };
        if plan.length == 0 { Err("its own thread-locals are not loaded with the program") } else { Ok(plan) }
    }
}

/// Takes the thread-locals of one module of the program into the plan.
unsafe extern "C" fn look(module: *mut libc::dl_phdr_info, size: usize, plan: *mut c_void) -> c_int {
    if size < size_of::<libc::dl_phdr_info>() {
        return 0;
    }
    // SAFETY: `dl_iterate_phdr(3)` calls with a module that is valid during the call, of at least the size that was asked
    // for, and with the pointer that `make` has passed.
    let (module, plan) = unsafe { (&*module, &mut *plan.cast::<Plan>()) };
    // SAFETY: the module's own headers, so many of them.
    let headers = unsafe { std::slice::from_raw_parts(module.dlpi_phdr, usize::from(module.dlpi_phnum)) };
    let Some(header) = headers.iter().find(|header| header.p_type == libc::PT_TLS) else { return 0 };
    let below = thread_pointer().addr().wrapping_sub(module.dlpi_tls_data.addr());
    if module.dlpi_tls_data.is_null() || below > FAR {
        return 0;
    }
    plan.below = plan.below.max(below);
    plan.align = plan.align.max(header.p_align as usize);
    let length = header.p_memsz as usize;
    if plan.lent <= below && plan.lent > below - length {
        (plan.program, plan.length) = (below, length);
        let template = (module.dlpi_addr + header.p_vaddr) as usize;
        // SAFETY: where the module has its template, which is constant once the program is loaded.
        plan.template = unsafe {
            std::slice::from_raw_parts(std::ptr::with_exposed_provenance(template), header.p_filesz as usize)
        };
    }
    0
}
