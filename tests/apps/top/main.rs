//! top: machines and coroutines of a running process, as `top` shows processes. It looks through the Unix socket at which the process tells of
//! itself (`machinarium::inspect::serve`), and changes nothing there.
//!
//! ```text
//! kv --inspect /tmp/kv.inspect &
//! top /tmp/kv.inspect            a live view; on what is no terminal, as with --once
//! top --once /tmp/kv.inspect     one picture, plain
//! ```
//!
//! Keys: `q` ends it, space stops and starts time, `s` sorts by the next column and `r` the other way round, `/` looks for what contains a text,
//! arrows and pages move.
//!
//! Exit codes: 0, 1 if the process has gone or does not answer, 2 if the command line cannot be done.

#[path = "../common/mod.rs"]
mod common;
mod draw;
mod keys;
mod snapshot;
mod source;
mod terminal;
mod view;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use machinarium::net::{Interest, wait_fd};
use machinarium::signal::{Signal, Signals};
use machinarium::sync::channel::{Receiver, Sender, bounded};
use machinarium::{now, sleep, spawn_named};

use common::cli::{self, count_up_to};
use keys::{Key, Keys};
use snapshot::Snapshot;
use source::Source;
use terminal::Terminal;
use view::{Step, View};

/// The time between the two looks of one picture.
const MOMENT: Duration = Duration::from_millis(300);

/// Machines and coroutines of a running process.
#[derive(Parser)]
#[command(name = "top")]
struct Cli {
    /// The socket at which the process tells of itself.
    #[arg(value_name = "SOCKET")]
    socket: PathBuf,
    /// One picture, plain, and no more.
    #[arg(long)]
    once: bool,
    /// How often to look, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = count_up_to(3_600_000))]
    interval: u64,
}

fn main() -> ExitCode {
    let cli: Cli = match cli::parse("top") {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let source = Source::new(cli.socket);
    let live = !cli.once && io::stdout().is_terminal() && io::stdin().is_terminal();
    let seen = machinarium::run(|| {
        if live { watch(source, Duration::from_millis(cli.interval)) } else { once(source) }
    });
    match seen {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads this has read enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("top: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Two looks, for what is counted by the second; one picture.
fn once(mut source: Source) -> io::Result<()> {
    let mut view = View::new(source.name());
    view.see(source.look()?);
    sleep(MOMENT)?;
    view.see(source.look()?);
    let lines = draw::all(&view);
    writeln!(io::stdout(), "{}", lines.join("\n"))
}

/// What happens, one after the other.
enum Event {
    Key(Key),
    /// The terminal has another size.
    Redraw,
    Look(io::Result<Snapshot>),
    End,
}

/// A picture for each look, and for whatever is typed, until `q` or a signal.
fn watch(source: Source, interval: Duration) -> io::Result<()> {
    let mut view = View::new(source.name());
    let mut terminal = Terminal::take()?;
    let (send, events) = bounded(16);
    start(source, interval, &send)?;
    drop(send);
    show(&mut view, &mut terminal, &events)
}

fn show(view: &mut View, terminal: &mut Terminal, events: &Receiver<Event>) -> io::Result<()> {
    loop {
        let (width, height) = terminal.size();
        terminal.draw(&draw::screen(view, width, height))?;
        match events.recv().map_err(io::Error::other)? {
            Event::Key(key) => match view.press(key, height) {
                Step::Quit => return Ok(()),
                Step::Stay => {}
            },
            Event::Look(Ok(snapshot)) => view.see(snapshot),
            Event::Look(Err(error)) => view.lose(&error),
            Event::Redraw => {}
            Event::End => return Ok(()),
        }
    }
}

/// Who looks, who reads the keyboard, and who hears signals. They end with the machine.
fn start(mut source: Source, interval: Duration, send: &Sender<Event>) -> io::Result<()> {
    let [looks, keys, heard] = [(); 3].map(|()| send.clone());
    spawn_named("looks", move || {
        loop {
            let begun = now();
            if looks.send(Event::Look(source.look())).is_err()
                || sleep(interval.saturating_sub(now() - begun)).is_err()
            {
                return;
            }
        }
    });
    spawn_named("keyboard", move || -> io::Result<()> {
        // As much as std's own buffer, which then keeps nothing of which no event would tell.
        let (mut typed, mut buf) = (Keys::default(), [0; 8192]);
        loop {
            wait_fd(io::stdin(), Interest::Readable)?;
            let count = io::Read::read(&mut io::stdin(), &mut buf)?;
            if count == 0 {
                return keys.send(Event::End).map_err(|_| io::ErrorKind::BrokenPipe.into());
            }
            for key in typed.take(&buf[..count]) {
                keys.send(Event::Key(key)).map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
        }
    });
    let signals = Signals::new([Signal::Int, Signal::Term, Signal::Winch])?;
    spawn_named("signals", move || {
        while let Ok(signal) = signals.recv() {
            let event = if matches!(signal, Signal::Int | Signal::Term) { Event::End } else { Event::Redraw };
            if heard.send(event).is_err() {
                return;
            }
        }
    });
    Ok(())
}
