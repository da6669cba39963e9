//! Local stand-in until the coroutine layer is merged.
#![allow(missing_docs, unsafe_code, dead_code, unreachable_pub, clippy::undocumented_unsafe_blocks)]
pub mod coroutine {
    use std::cell::RefCell;
    #[repr(C)]
    #[derive(Default)]
    pub struct Context {
        sp: usize,
        pc: usize,
        rbx: usize,
        rbp: usize,
    }
    #[repr(C, align(64))]
    pub struct Header {
        pub context: Context,
        base: *mut u8,
    }
    impl Header {
        pub fn set_name(&mut self, _: &str) {}
    }
    pub struct StackOptions {
        pub size: usize,
        pub control: usize,
    }
    impl Default for StackOptions {
        fn default() -> Self {
            StackOptions { size: 1 << 18, control: 64 }
        }
    }
    pub struct Stacks {
        size: usize,
        free: RefCell<Vec<*mut u8>>,
    }
    pub struct Stack(*mut Header);
    impl Stack {
        pub fn header(&self) -> *mut Header {
            self.0
        }
        pub fn top(&self) -> *mut u8 {
            self.0.cast()
        }
    }
    impl Stacks {
        pub fn new(o: StackOptions) -> Result<Stacks, String> {
            Ok(Stacks { size: o.size, free: RefCell::default() })
        }
        fn layout(&self) -> std::alloc::Layout {
            std::alloc::Layout::from_size_align(self.size, 4096).unwrap()
        }
        pub fn allocate(&self) -> Result<Stack, String> {
            let base =
                self.free.borrow_mut().pop().unwrap_or_else(|| unsafe { std::alloc::alloc(self.layout()) });
            let header = unsafe { base.add(self.size - 128) }.cast::<Header>();
            unsafe { header.write(Header { context: Context::default(), base }) };
            Ok(Stack(header))
        }
        pub unsafe fn release(&self, s: Stack) {
            self.free.borrow_mut().push(unsafe { (*s.0).base })
        }
    }
    pub unsafe fn prepare(
        c: *mut Context,
        top: *mut u8,
        entry: unsafe extern "C" fn(*mut u8) -> !,
        arg: *mut u8,
    ) {
        unsafe {
            let sp = top.sub(32).cast::<usize>();
            sp.write(arg as usize);
            sp.add(1).write(entry as usize);
            *c = Context { sp: sp as usize, pc: start as *const () as usize, rbx: 0, rbp: 0 };
        }
    }
    #[unsafe(naked)]
    unsafe extern "C" fn start() {
        core::arch::naked_asm!("pop rdi", "pop rax", "call rax", "ud2")
    }
    #[inline(always)]
    pub unsafe fn switch(from: *mut Context, to: *const Context) {
        unsafe {
            core::arch::asm!(
                "lea rax, [rip + 2f]",
                "mov [rdi], rsp", "mov [rdi+8], rax", "mov [rdi+16], rbx", "mov [rdi+24], rbp",
                "mov rsp, [rsi]", "mov rbx, [rsi+16]", "mov rbp, [rsi+24]",
                "jmp qword ptr [rsi+8]",
                "2:",
                inout("rdi") from => _, inout("rsi") to => _, out("r12") _, out("r13") _, out("r14") _, out("r15") _,
                clobber_abi("sysv64"),
            );
        }
    }
}
pub mod current {
    use machinarium::kernel::{Instant, Kernel};
    use std::rc::Rc;
    pub struct CoroutineInfo {
        pub id: u64,
        pub name: String,
        pub state: &'static str,
        pub waits_for: String,
        pub deadline: Option<Instant>,
        pub backtrace: Option<String>,
    }
    pub unsafe fn swap(new: usize) -> usize {
        let _ = new;
        0
    }
    pub unsafe fn describe(_slot: usize) -> Vec<CoroutineInfo> {
        Vec::new()
    }
    pub fn with_kernel<R>(kernel: Rc<dyn Kernel>, f: impl FnOnce() -> R) -> R {
        let _k = kernel;
        f()
    }
}
