//! The smallest thing that runs on a stack of its own: started and continued by `resume`, until its closure returns.

use std::cell::{Cell, UnsafeCell};
use std::rc::Rc;

use machinarium::coroutine::{self, Context, Header, Stack, Stacks};

/// A flow of control on a stack of the pool. Must end before it is dropped.
pub struct Strand {
    header: *mut Header,
    body: Rc<Body>,
    stacks: Rc<Stacks>,
}

type Closure = Box<dyn FnOnce(&Yielder)>;

struct Body {
    closure: Cell<Option<Closure>>,
    yielder: Yielder,
    ended: Cell<bool>,
}

/// The way back to whoever resumed.
#[derive(Clone)]
pub struct Yielder(Rc<Ends>);

struct Ends {
    outside: UnsafeCell<Context>,
    header: *mut Header,
}

impl Yielder {
    #[inline(always)]
    pub fn pause(&self) {
        // SAFETY: called on the strand, which `resume` has entered.
        unsafe { coroutine::switch(&raw mut (*self.0.header).context, self.0.outside.get()) }
    }
}

impl Strand {
    pub fn new(stacks: &Rc<Stacks>, closure: impl FnOnce(&Yielder) + 'static) -> Strand {
        let stack = stacks.allocate().unwrap();
        let top = stack.top();
        let header = stack.into_raw();
        let ends = Ends { outside: UnsafeCell::new(Context::default()), header };
        let body = Rc::new(Body {
            closure: Cell::new(Some(Box::new(closure))),
            yielder: Yielder(Rc::new(ends)),
            ended: Cell::new(false),
        });
        // SAFETY: a stack that nothing uses; the body outlives the strand.
        unsafe { coroutine::prepare(&raw mut (*header).context, top, entry, Rc::as_ptr(&body) as *mut u8) };
        Strand { header, body, stacks: stacks.clone() }
    }

    /// Runs until the next pause; false once the closure has returned.
    pub fn resume(&self) -> bool {
        assert!(!self.body.ended.get());
        // SAFETY: prepared, or suspended in `pause`.
        unsafe { coroutine::switch(self.body.yielder.0.outside.get(), &raw const (*self.header).context) };
        !self.body.ended.get()
    }

    pub fn header(&self) -> *mut Header {
        self.header
    }
}

impl Drop for Strand {
    fn drop(&mut self) {
        if self.body.ended.get() {
            // SAFETY: it has ended, on another stack than this.
            unsafe { self.stacks.release(Stack::from_raw(self.header)) };
        }
    }
}

unsafe extern "C" fn entry(argument: *mut u8) -> ! {
    // SAFETY: `new` gave the body, which outlives the strand.
    let body = unsafe { &*argument.cast::<Body>() };
    let closure = body.closure.take().unwrap();
    closure(&body.yielder);
    body.ended.set(true);
    // SAFETY: nothing is left on this stack.
    unsafe { coroutine::leave(body.yielder.0.outside.get()) }
}
