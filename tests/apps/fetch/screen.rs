//! What is seen meanwhile: on a terminal a bar for each download and one for all, and everywhere a line for whatever has happened. In a
//! simulated world nothing.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressStyle};
use machinarium::{Instant, now};

/// At most 76 columns each, so that a Ctrl-C that the terminal shows behind the last one begins no new line.
const COMES: &str = "{prefix:18!} [{bar:12}] {binary_bytes:>10} of {binary_total_bytes:10} {binary_bytes_per_sec:>12} {eta:>4}";
/// Of one whose length the server does not tell.
const ENDLESS: &str = "{prefix:18!} [{spinner}] {binary_bytes:>10}               {binary_bytes_per_sec:>12}";
/// When nothing comes for now.
const WAITS: &str = "{prefix:18!} [{bar:12}] {binary_bytes:>10} of {binary_total_bytes:10} {msg:>17}";

/// All downloads.
pub(crate) struct Screen {
    /// What happens, and what has failed.
    say: [fn(&str); 2],
    bars: Option<(MultiProgress, ProgressBar)>,
    /// The bars of downloads that have begun.
    begun: RefCell<Vec<ProgressBar>>,
    files: usize,
    done: Cell<usize>,
    /// Of those that are done.
    bytes: Cell<u64>,
}

/// One of them. It has no bar any more when it is dropped.
pub(crate) struct Progress<'a> {
    screen: &'a Screen,
    name: &'a str,
    bar: ProgressBar,
    since: Instant,
    /// From where on it has come since then.
    first: Cell<u64>,
}

impl Screen {
    /// Nothing.
    pub(crate) fn silent(files: usize) -> Screen {
        Screen::lines(files, [|_| {}; 2])
    }

    /// Lines alone, of what happens and of what has failed, for whoever takes them.
    pub(crate) fn lines(files: usize, say: [fn(&str); 2]) -> Screen {
        Screen { say, bars: None, begun: RefCell::default(), files, done: Cell::new(0), bytes: Cell::new(0) }
    }

    /// Bars on the error output, which is a terminal.
    pub(crate) fn bars(files: usize) -> Screen {
        let multi = MultiProgress::new();
        let all = multi.add(ProgressBar::new(0).with_style(style(COMES)));
        Screen { bars: Some((multi, all)), ..Screen::silent(files) }
    }

    pub(crate) fn begin<'a>(&'a self, name: &'a str) -> Progress<'a> {
        let bar = match &self.bars {
            Some((multi, all)) => multi.insert_before(all, ProgressBar::no_length()),
            None => ProgressBar::hidden(),
        };
        bar.set_prefix(name.to_owned());
        self.begun.borrow_mut().push(bar.clone());
        Progress { screen: self, name, bar, since: now(), first: Cell::new(u64::MAX) }
    }

    /// A line that stays.
    pub(crate) fn say(&self, text: &str) {
        self.line(text, self.say[0]);
    }

    fn line(&self, text: &str, say: fn(&str)) {
        match &self.bars {
            // A terminal that has gone shows nothing any more, and the downloads go on.
            Some((multi, _)) => drop(multi.println(format!("fetch: {text}"))),
            None => say(text),
        }
    }

    /// Draws everything anew, at the time that it is: of what has stopped, the bar goes on to tell how slow it is.
    pub(crate) fn tick(&self) {
        let Some((_, all)) = &self.bars else { return };
        let begun = self.begun.borrow();
        let sum = |of: fn(&ProgressBar) -> u64| begun.iter().map(of).sum::<u64>() + self.bytes.get();
        begun.iter().for_each(ProgressBar::tick);
        all.set_prefix(format!("{} of {} files", self.done.get(), self.files));
        all.set_length(sum(|bar| bar.length().unwrap_or(0)));
        all.set_position(sum(ProgressBar::position));
    }

    /// Whether there is anything to draw.
    pub(crate) fn has_bars(&self) -> bool {
        self.bars.is_some()
    }

    /// No more bars.
    pub(crate) fn close(&self) {
        if let Some((multi, _)) = &self.bars {
            drop(multi.clear());
        }
    }
}

impl Progress<'_> {
    /// What comes now begins at `offset`, and should be so long with what is there already.
    pub(crate) fn comes(&self, offset: u64, total: Option<u64>) {
        match total {
            Some(total) => {
                self.bar.set_style(style(COMES));
                self.bar.set_length(total);
            }
            None => self.bar.set_style(style(ENDLESS)),
        }
        self.bar.set_position(offset);
        self.bar.reset_eta();
        self.first.set(self.first.get().min(offset));
    }

    /// An earlier run has left so much.
    pub(crate) fn goes_on(&self, offset: u64) {
        self.say(&format!("goes on after {}", BinaryBytes(offset)));
    }

    pub(crate) fn is_at(&self, offset: u64) {
        self.bar.set_position(offset);
    }

    pub(crate) fn say(&self, text: &str) {
        self.screen.say(&format!("{}: {text}", self.name));
    }

    /// It will not be there.
    pub(crate) fn failed(&self, why: &str) {
        self.screen.line(&format!("{}: {why}", self.name), self.screen.say[1]);
    }

    /// Nothing comes for a while.
    pub(crate) fn waits(&self, why: &str, pause: Duration) {
        self.bar.set_style(style(WAITS));
        self.bar.set_message(format!("again in {}", seconds(pause)));
        self.say(&format!("{why}; tries again in {}", seconds(pause)));
    }

    /// The whole file is there, under this name.
    pub(crate) fn done(&self, length: u64, name: &str) {
        let time = now() - self.since;
        let rate = length.saturating_sub(self.first.get()) as u128 * 1_000_000 / time.as_micros().max(1);
        self.screen.done.set(self.screen.done.get() + 1);
        self.screen.bytes.set(self.screen.bytes.get() + length);
        let rate = BinaryBytes(u64::try_from(rate).unwrap_or(u64::MAX));
        self.screen.say(&format!("{name}: {} in {}, {rate}/s", BinaryBytes(length), seconds(time)));
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.screen.begun.borrow_mut().retain(|bar| !bar.is_finished());
    }
}

/// A time as people tell it.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("a template of ours");
    let ticks: Vec<String> = (0..10).map(|place| format!("{:12}", format!("{:place$}<=>", ""))).collect();
    style.progress_chars("=> ").tick_strings(&ticks.iter().map(String::as_str).collect::<Vec<_>>())
}
