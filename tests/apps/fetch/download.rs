//! One download: tries, with pauses between them, until the whole file is there or nothing more can be hoped for. What has come is kept for
//! the next try, and for the next run.

use std::cell::RefCell;
use std::io::Read;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use machinarium::tls::provider;
use machinarium::{Instant, deadline, now, sleep};

use crate::config::{Config, Target};
use crate::failure::Failure;
use crate::name::Names;
use crate::partial::{Partial, is_there};
use crate::request::{Answer, Client, Whole};
use crate::screen::{Progress, seconds};

/// The longest pause between two tries, unless the server asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest that a server may ask for.
const LONGEST_WISH: Duration = Duration::from_secs(300);
/// How much is read before it is written.
const PIECE: usize = 1 << 17;

/// A download under way.
pub(crate) struct Download<'a> {
    pub(crate) config: &'a Config,
    pub(crate) client: &'a Client,
    pub(crate) target: &'a Target,
    /// What it is called until it is whole, and then too unless its server names it.
    pub(crate) name: &'a str,
    pub(crate) names: &'a RefCell<Names>,
    pub(crate) progress: &'a Progress<'a>,
}

/// How a download has ended well.
pub(crate) enum Done {
    /// So many bytes are there, under this name.
    Whole(u64, String),
    /// There is a file of this name, which is left as it is.
    WasThere(String),
}

/// What a try has brought.
enum Came {
    All,
    /// A server may send less than it was asked for.
    Some,
    /// A name that is taken.
    Name(String),
}

impl Download<'_> {
    pub(crate) fn run(&self) -> Result<Done, Failure> {
        if self.is_there(self.name)? {
            return Ok(Done::WasThere(self.name.to_owned()));
        }
        let end = self.config.whole.map_or(Instant::FAR, |whole| now() + whole);
        let done = deadline(end, || self.bring());
        match (done, self.config.whole) {
            (Err(Failure::Passing(..) | Failure::Lasting(_)), Some(whole)) if now() >= end => {
                Err(Failure::Lasting(format!("it took longer than --max-time, {}", seconds(whole))))
            }
            (done, _) => done,
        }
    }

    fn bring(&self) -> Result<Done, Failure> {
        let url = self.target.url.to_string();
        let partial = Partial::open(&self.config.directory, self.name, &url);
        let mut partial = partial.map_err(|error| self.disk(error))?;
        if partial.length() > 0 {
            self.progress.goes_on(partial.length());
        }
        let brought = self.try_often(&mut partial).and_then(|taken| match taken {
            Some(name) => Ok(Done::WasThere(name)),
            None => self.finish(&mut partial),
        });
        match &brought {
            Ok(Done::Whole(..)) => {}
            Err(_) if partial.length() > 0 => {
                // If that fails, the next run goes on from the last one.
                let _ = partial.checkpoint();
            }
            // An empty file, whose removal nothing depends on.
            _ => drop(partial.remove()),
        }
        brought
    }

    fn finish(&self, partial: &mut Partial) -> Result<Done, Failure> {
        self.verify(partial)?;
        let name = self.name_at_last(partial);
        partial.finish(&name).map_err(|error| self.disk(error))?;
        Ok(Done::Whole(partial.length(), name))
    }

    /// Tries until everything is there, or until there is a name that is taken.
    fn try_often(&self, partial: &mut Partial) -> Result<Option<String>, Failure> {
        let (mut tries, mut most) = (0, partial.length());
        loop {
            let came = self.try_once(partial);
            if partial.length() > most {
                (tries, most) = (0, partial.length());
            }
            match came {
                Ok(Came::All) => return Ok(None),
                Ok(Came::Name(name)) => return Ok(Some(name)),
                Ok(Came::Some) => {}
                Err(Failure::Passing(what, wish)) => {
                    tries += 1;
                    if tries >= self.config.tries {
                        return Err(Failure::Lasting(format!(
                            "{}; given up after {tries} tries",
                            Failure::Lasting(what)
                        )));
                    }
                    let pause = self.pause(tries).max(wish.unwrap_or_default().min(LONGEST_WISH));
                    self.progress.waits(&Failure::Lasting(what).to_string(), pause);
                    sleep(pause).map_err(|error| Failure::of_connection(error.into()))?;
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Doubled with each try, and something between half of that and all of it: those who failed together do not come back together.
    fn pause(&self, tries: u32) -> Duration {
        let longest = self.config.pause.saturating_mul(1 << (tries - 1).min(16)).min(LONGEST_PAUSE);
        let mut random = [0; 2];
        provider().secure_random.fill(&mut random).expect("the system has random bytes");
        longest / 2 + longest / 2 * u16::from_ne_bytes(random).into() / 65536
    }

    fn try_once(&self, partial: &mut Partial) -> Result<Came, Failure> {
        let (offset, version) = (partial.length(), partial.version());
        if offset > 0 && version.total == Some(offset) {
            return Ok(Came::All);
        }
        match self.client.get(&self.target.url, offset, version)? {
            Answer::Whole(whole) => self.take_whole(whole, partial),
            Answer::Rest { end, total, body } => {
                partial.learn_total(total);
                self.progress.comes(offset, Some(total));
                self.copy(body, partial, Some(end))?;
                Ok(if end == total { Came::All } else { Came::Some })
            }
            Answer::Outdated => {
                partial.begin(Default::default(), None).map_err(|error| self.disk(error))?;
                Err(Failure::passing(
                    "what the server has does not go on where this file was cut; begins again",
                ))
            }
        }
    }

    fn take_whole(&self, whole: Whole, partial: &mut Partial) -> Result<Came, Failure> {
        if partial.length() > 0 {
            self.progress.say("the server has another version, or cannot send parts; begins again");
        }
        let total = whole.version.total;
        self.progress.comes(0, total);
        partial.begin(whole.version, whole.called).map_err(|error| self.disk(error))?;
        let name = self.name_at_last(partial);
        if name != self.name && self.is_there(&name)? {
            return Ok(Came::Name(name));
        }
        self.copy(whole.body, partial, total)?;
        if !whole.has_end {
            self.progress.say("the server did not say how long it is: nobody knows whether this is all");
        }
        Ok(Came::All)
    }

    /// Takes a body to its end, which is at `end` of the file, if that is known.
    fn copy(&self, mut body: Box<dyn Read>, partial: &mut Partial, end: Option<u64>) -> Result<(), Failure> {
        let mut buf = vec![0; PIECE];
        loop {
            let count = body.read(&mut buf).map_err(Failure::of_connection)?;
            if count == 0 {
                break;
            }
            if end.is_some_and(|end| partial.length() + count as u64 > end) {
                partial.begin(Default::default(), None).map_err(|error| self.disk(error))?;
                return Err(Failure::passing("the server sends more than it said; begins again"));
            }
            partial.append(&buf[..count]).map_err(|error| self.disk(error))?;
            if now() - partial.safe_since() >= self.config.checkpoint {
                partial.checkpoint().map_err(|error| self.disk(error))?;
            }
            self.progress.is_at(partial.length());
        }
        if end.is_some_and(|end| partial.length() < end) {
            return Err(Failure::passing("the connection ended too early"));
        }
        Ok(())
    }

    /// Whether the file is what the caller knows it to be. If not, nothing of it is kept.
    fn verify(&self, partial: &mut Partial) -> Result<(), Failure> {
        let Some(wanted) = self.target.sha256 else { return Ok(()) };
        let mut sum = Context::new(&SHA256);
        partial.read(|bytes| sum.update(bytes)).map_err(|error| self.disk(error))?;
        let sum = sum.finish();
        if sum.as_ref() == wanted {
            return Ok(());
        }
        partial.begin(Default::default(), None).map_err(|error| self.disk(error))?;
        let hex: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Err(Failure::Lasting(format!("it is another file than was asked for: its SHA-256 is {hex}")))
    }

    /// What the whole file is to be called.
    fn name_at_last(&self, partial: &Partial) -> String {
        match partial.called() {
            Some(called) if self.config.server_names => self.names.borrow_mut().take_for(called, self.name),
            _ => self.name.to_owned(),
        }
    }

    fn is_there(&self, name: &str) -> Result<bool, Failure> {
        is_there(&self.config.directory.join(name)).map_err(|error| self.disk(error))
    }

    fn disk(&self, error: std::io::Error) -> Failure {
        Failure::of_disk(error, &self.config.directory)
    }
}
