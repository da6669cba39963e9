//! All downloads: `fetch` is the entry point, the same on Linux and in a simulated world. So many coroutines as may download at once take
//! one target after the other. A signal cancels them: they make safe what they have, and the next run goes on from there.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Duration;

use machinarium::signal::Signal;
use machinarium::{Builder, Shutdown, scope, sleep};

use crate::config::{Config, Target};
use crate::download::{Done, Download};
use crate::failure::Failure;
use crate::name::{self, Names};
use crate::request::Client;
use crate::screen::Screen;

/// How often the bars are drawn anew when nothing comes.
const TICK: Duration = Duration::from_millis(200);

/// What a run has come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// Files that are whole, with those that were there before.
    pub(crate) whole: usize,
    pub(crate) failed: usize,
    /// Which signal has ended it, if one has.
    pub(crate) stopped: Option<String>,
}

/// Downloads all targets, until that is done or a signal comes.
///
/// # Errors
/// When it could not begin: no machine, or nobody to trust. What fails later is told on the screen, and counted.
pub(crate) fn fetch(config: &Config, screen: &Screen) -> io::Result<Summary> {
    Builder::new().name("fetch").run(|| {
        let shutdown = Shutdown::new();
        shutdown.on_signals([Signal::Int, Signal::Term])?;
        let run = Run::new(config, Client::new(config)?, screen);
        shutdown.until_begun(|| run.all());
        let stopped = shutdown.cause().filter(|_| run.stopped.get()).map(|cause| cause.to_string());
        Ok(Summary { whole: run.whole.get(), failed: run.failed.get(), stopped })
    })
}

struct Run<'a> {
    config: &'a Config,
    client: Client,
    screen: &'a Screen,
    names: RefCell<Names>,
    /// What nobody has begun with yet.
    left: RefCell<std::vec::IntoIter<(&'a Target, String)>>,
    whole: Cell<usize>,
    failed: Cell<usize>,
    stopped: Cell<bool>,
}

impl<'a> Run<'a> {
    /// Names are given in the order of the targets, so that a second run gives the same.
    fn new(config: &'a Config, client: Client, screen: &'a Screen) -> Run<'a> {
        let mut names = Names::default();
        let named = config.targets.iter().map(|target| (target, names.take(&name::of_url(&target.url))));
        let left = RefCell::new(named.collect::<Vec<_>>().into_iter());
        let (whole, failed, stopped) = Default::default();
        Run { config, client, screen, names: RefCell::new(names), left, whole, failed, stopped }
    }

    fn all(&self) {
        scope(|scope| {
            let workers: Vec<_> = (0..self.config.jobs.min(self.config.targets.len()))
                .map(|number| scope.try_spawn(&format!("download {number}"), || self.work()))
                .collect();
            if self.screen.has_bars() {
                scope.spawn(|| {
                    while sleep(TICK).is_ok() {
                        self.screen.tick()
                    }
                });
            }
            for worker in workers.into_iter().flatten() {
                drop(worker.join());
            }
            scope.cancel("all is done");
        });
    }

    /// One target after the other.
    fn work(&self) {
        while !self.stopped.get() {
            let Some((target, name)) = self.left.borrow_mut().next() else { return };
            self.download(target, &name);
        }
    }

    fn download(&self, target: &Target, name: &str) {
        let progress = &self.screen.begin(name);
        let (config, client, names) = (self.config, &self.client, &self.names);
        let count = |of: &Cell<usize>| of.set(of.get() + 1);
        match (Download { config, client, target, name, names, progress }).run() {
            Ok(done) => {
                count(&self.whole);
                match done {
                    Done::Whole(length, name) => progress.done(length, &name),
                    Done::WasThere(name) => {
                        self.screen.say(&format!("{name}: is there already, and is left as it is"))
                    }
                }
            }
            Err(Failure::Stopped) => self.stopped.set(true),
            Err(failure) => {
                count(&self.failed);
                progress.failed(&format!("{failure} ({})", target.url));
            }
        }
    }
}
