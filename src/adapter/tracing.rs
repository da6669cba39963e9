//! tracing on machines: the current span is the coroutine's, and not its thread's.
//!
//! A subscriber keeps, for each thread, the spans that were entered there. Coroutines take turns on one thread, and each may park inside of
//! its own. [`Coroutines`] wraps a subscriber: before it passes on what depends on the current span, it sees whether the spans that are
//! entered below are of the coroutine that runs, and if not leaves those of the one before and enters those of this one. So a switch
//! costs nothing, with this feature or without it: only who says something pays, once for each time that it runs. (In exchange a subscriber
//! that measures how long spans are entered counts the time until somebody else says something.)
//!
//! Every coroutine has a span of its own below all that it enters, `coroutine`, with the names of it and of its machine as fields. It has
//! no parent: what began it is told by a span that its closure enters.
//!
//! In a simulation the binary is to have the guard, so that each simulated thread has its own spans below.
//!
//! ```
//! use machinarium::adapter::tracing::Coroutines;
//! use tracing_subscriber::{Registry, layer::SubscriberExt};
//!
//! let subscriber = Coroutines::new(Registry::default().with(tracing_subscriber::fmt::layer().without_time()));
//! tracing::subscriber::set_global_default(subscriber).unwrap();
//! let result: std::io::Result<()> = machinarium::run(|| {
//!     let client = machinarium::spawn_named("client", || {
//!         let _span = tracing::info_span!("request", id = 7).entered();
//!         machinarium::yield_now();
//!         tracing::info!("done"); // INFO coroutine{machine="machine-0" id=2 name="client"}:request{id=7}: done
//!     });
//!     tracing::info!("waits"); // INFO coroutine{machine="machine-0" id=1 name="main"}: waits
//!     Ok(client.join()?)
//! });
//! result.unwrap();
//! ```

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tracing_core::callsite::DefaultCallsite;
use tracing_core::field::Value;
use tracing_core::metadata::Kind;
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::subscriber::{Interest, Subscriber};
use tracing_core::{Dispatch, Event, Level, LevelFilter, Metadata};

use crate::machine::{CoroutineLocal, MachineLocal, current};

/// A subscriber whose current span is the coroutine's. One for a process; what says something outside of machines is passed on as it is.
#[derive(Debug)]
pub struct Coroutines<S> {
    inner: Arc<S>,
}

/// The spans that a coroutine has entered, the innermost last. Each counts as a use of its span, which is so not closed while it is here,
/// whoever has its guard.
type Stack = RefCell<Vec<Id>>;

/// What is a coroutine's.
#[derive(Default)]
struct Spans {
    stack: Rc<Stack>,
    begun: Cell<bool>,
    /// Who knows its spans.
    known_by: Cell<Option<Arc<dyn Subscriber + Send + Sync>>>,
}

static SPANS: CoroutineLocal<Spans> = CoroutineLocal::new(Spans::default);
/// Whose spans are entered in the subscriber, on this machine's thread.
static ENTERED: MachineLocal<RefCell<Option<Rc<Stack>>>> = MachineLocal::new(RefCell::default);

static METADATA: Metadata<'static> = tracing_core::metadata! {
    name: "coroutine",
    target: "machinarium",
    level: Level::INFO,
    fields: &["machine", "id", "name"],
    callsite: &CALLSITE,
    kind: Kind::SPAN,
};
static CALLSITE: DefaultCallsite = DefaultCallsite::new(&METADATA);

impl<S: Subscriber + Send + Sync> Coroutines<S> {
    /// Wraps a subscriber.
    pub fn new(inner: S) -> Coroutines<S> {
        // Whoever is made a dispatcher is asked about the callsites that are known then.
        CALLSITE.interest();
        Coroutines { inner: Arc::new(inner) }
    }

    /// The spans of the running coroutine, which are those that are entered from now on. `None`: no coroutine runs, or it is at its end.
    fn here(&self) -> Option<Rc<Stack>> {
        current::machine()?;
        let stack = SPANS.try_with(|spans| {
            if !spans.begun.replace(true) {
                spans.begin(&self.inner);
            }
            spans.stack.clone()
        });
        let stack = stack.ok();
        change(&*self.inner, stack.clone());
        stack
    }
}

/// Has the subscriber leave the spans that are entered and enter these.
fn change(inner: &dyn Subscriber, stack: Option<Rc<Stack>>) {
    let entered = ENTERED.with(|entered| entered.borrow().clone());
    if entered.as_ref().map(Rc::as_ptr) == stack.as_ref().map(Rc::as_ptr) {
        return;
    }
    // First: what a subscriber does about it may be told as well.
    ENTERED.with(|entered| entered.replace(stack.clone()));
    let ids = |stack: Option<Rc<Stack>>| stack.map_or(Vec::new(), |stack| stack.borrow().clone());
    ids(entered).iter().rev().for_each(|id| inner.exit(id));
    ids(stack).iter().for_each(|id| inner.enter(id));
}

/// Takes a span out of those that are entered. Guards may be dropped in any order.
fn leave(stack: &Stack, span: &Id) -> Option<Id> {
    let mut stack = stack.borrow_mut();
    let place = stack.iter().rposition(|entered| entered == span)?;
    Some(stack.remove(place))
}

/// The guard was given to this coroutine by the one that has entered.
fn leave_elsewhere(span: &Id) -> Option<Id> {
    SPANS.of_all().iter().find_map(|spans| leave(&spans.stack, span))
}

impl Spans {
    fn begin<S: Subscriber + Send + Sync>(&self, inner: &Arc<S>) {
        self.known_by.set(Some(inner.clone()));
        if !inner.enabled(&METADATA) {
            return;
        }
        let machine = current::machine().map_or("", |machine| &machine.shared.name);
        let own = current::with_coroutine(|id, name| {
            let fields = METADATA.fields();
            let [of_machine, of_id, of_name] =
                ["machine", "id", "name"].map(|name| fields.field(name).expect("it is one of them"));
            let values: [(_, Option<&dyn Value>); 3] =
                [(&of_machine, Some(&machine)), (&of_id, Some(&id)), (&of_name, Some(&name))];
            inner.new_span(&Attributes::new_root(&METADATA, &fields.value_set(&values)))
        });
        self.stack.borrow_mut().extend(own);
    }
}

/// The coroutine ends. What it has entered and not left is left.
impl Drop for Spans {
    fn drop(&mut self) {
        let Some(inner) = self.known_by.take() else { return };
        let is_entered = |entered: &RefCell<Option<Rc<Stack>>>| {
            entered.borrow().as_ref().is_some_and(|entered| Rc::ptr_eq(entered, &self.stack))
        };
        if ENTERED.with(is_entered) {
            change(&*inner, None);
        }
        self.stack.take().into_iter().rev().for_each(|id| {
            inner.try_close(id);
        });
    }
}

impl<S: Subscriber + Send + Sync> Subscriber for Coroutines<S> {
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.inner.on_register_dispatch(dispatch);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.inner.register_callsite(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.inner.max_level_hint()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.here();
        self.inner.enabled(metadata)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.here();
        self.inner.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.inner.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.inner.record_follows_from(span, follows);
    }

    fn event_enabled(&self, event: &Event<'_>) -> bool {
        self.here();
        self.inner.event_enabled(event)
    }

    fn event(&self, event: &Event<'_>) {
        self.here();
        self.inner.event(event);
    }

    fn enter(&self, span: &Id) {
        if let Some(stack) = self.here() {
            let span = self.inner.clone_span(span);
            stack.borrow_mut().push(span);
        }
        self.inner.enter(span);
    }

    fn exit(&self, span: &Id) {
        let left = self.here().and_then(|stack| leave(&stack, span).or_else(|| leave_elsewhere(span)));
        self.inner.exit(span);
        left.map(|span| self.inner.try_close(span));
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.inner.clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        self.inner.try_close(id)
    }

    fn current_span(&self) -> Current {
        self.here();
        self.inner.current_span()
    }
}
