//! Spans of tracing stay with their coroutines, however these take turns.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use machinarium::adapter::tracing::Coroutines;
use machinarium::sync::Mutex;
use machinarium::{Builder, machine, spawn, spawn_named, yield_now};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use super::{Error, SHORT, both};

/// What was said, and in which spans, the outermost first.
type Said = Arc<Mutex<Vec<(String, Vec<String>)>>>;

struct Listens(Said);

/// The fields of a span.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Listens {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let spans = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        let spans = spans.map(|span| {
            let extensions = span.extensions();
            let fields = extensions.get::<Fields>().unwrap();
            let name = ["machine", "name"].map(|field| fields.0.get(field).cloned().unwrap_or_default());
            format!("{}{}", span.name(), name.concat())
        });
        self.0.lock().unwrap().push((fields.0["message"].clone(), spans.collect()));
    }
}

fn listen() -> (Said, tracing::subscriber::DefaultGuard) {
    let said = Said::default();
    let subscriber = Coroutines::new(Registry::default().with(Listens(said.clone())));
    (said, tracing::subscriber::set_default(subscriber))
}

#[test]
fn each_coroutine_has_its_own() {
    both(|| {
        let (said, _guard) = listen();
        let workers = ["a", "b", "c"].map(|name| {
            spawn_named(name, move || {
                let outer = tracing::info_span!("outer", name).entered();
                yield_now();
                tracing::info!("{name} begins");
                {
                    let _inner = tracing::info_span!("inner", name).entered();
                    machinarium::sleep(SHORT).unwrap();
                    tracing::info!("{name} goes on");
                    yield_now();
                }
                // A guard may be dropped before those that came after it.
                let late = tracing::info_span!("late", name).entered();
                drop(outer);
                yield_now();
                tracing::info!("{name} ends");
                drop(late);
            })
        });
        tracing::info!("main waits");
        for worker in workers {
            worker.join()?;
        }
        tracing::info!("main ends");
        let said: BTreeMap<String, Vec<String>> = said.lock()?.drain(..).collect();
        let machine = machine::current()?.name().to_owned();
        let own = |name: &str| format!("coroutine\"{machine}\"\"{name}\"");
        assert_eq!(said["main waits"], [own("main")]);
        assert_eq!(said["main ends"], [own("main")]);
        for name in ["a", "b", "c"] {
            let of = |span: &str| format!("{span}\"{name}\"");
            assert_eq!(said[&format!("{name} begins")], [own(name), of("outer")]);
            assert_eq!(said[&format!("{name} goes on")], [own(name), of("outer"), of("inner")]);
            // It was begun inside of the outer one, which is its parent for ever.
            assert_eq!(said[&format!("{name} ends")], [own(name), of("outer"), of("late")]);
        }
        Ok(())
    });
}

/// One that ends inside of a span, by a panic or unwound, leaves nothing entered for others.
#[test]
fn who_ends_inside_a_span_leaves_it() {
    both(|| {
        let (said, _guard) = listen();
        let panics = spawn(|| {
            let _span = tracing::info_span!("panics").entered();
            tracing::info!("in it");
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        assert!(panics.join().is_err());
        let forgets = spawn(|| {
            std::mem::forget(tracing::info_span!("forgets").entered());
            tracing::info!("in it");
        });
        forgets.join()?;
        spawn(|| tracing::info!("after")).join()?;
        let said = said.lock()?;
        assert_eq!(said[2].1.len(), 1, "{said:?}");
        Ok::<(), Error>(())
    });
}

/// A guard that another coroutine drops: its span is left nowhere else, and may be closed before its coroutine says something again.
#[test]
fn a_guard_may_go_to_another_coroutine() {
    both(|| {
        let (said, _guard) = listen();
        let enters = spawn(|| {
            let outer = tracing::info_span!("outer").entered();
            let inner = tracing::info_span!("inner").entered();
            let drops = spawn(move || {
                let _mine = tracing::info_span!("mine").entered();
                drop(inner);
                tracing::info!("dropped");
            });
            drops.join().unwrap();
            tracing::info!("after");
            drop(outer);
            tracing::info!("at the end");
        });
        enters.join()?;
        let said = said.lock()?;
        let spans = |place: usize| said[place].1[1..].to_vec();
        assert_eq!(
            [spans(0), spans(1), spans(2)],
            [vec!["mine".to_owned()], vec!["outer".to_owned()], vec![]]
        );
        Ok(())
    });
}

/// Outside of machines, and where nobody listens, nothing changes.
#[test]
fn outside_of_a_machine_it_is_the_threads() {
    let (said, _guard) = listen();
    let _span = tracing::info_span!("thread").entered();
    tracing::info!("before");
    let result: std::io::Result<()> = Builder::new().name("inside").run(|| {
        tracing::info!("inside");
        Ok(())
    });
    result.unwrap();
    tracing::info!("after");
    let said = said.lock().unwrap();
    assert_eq!((&said[0].1, &said[2].1), (&vec!["thread".to_owned()], &vec!["thread".to_owned()]));
    assert_eq!(said[1].1, ["coroutine\"inside\"\"main\""]);
}
