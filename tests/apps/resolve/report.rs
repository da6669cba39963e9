//! What resolve finds out of a name, and how it says so. Knows no command line; runs in a machine.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use machinarium::net::{Family, Lookup, LookupError, LookupFailure};
use machinarium::{now, scope, timeout};

/// How names are looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) family: Family,
    pub(crate) timeout: Duration,
}

/// What was found out of a name.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) answer: Result<Vec<SocketAddr>, LookupError>,
    /// How long the answer took, and, if it is one that is remembered, how long it takes now.
    pub(crate) asked: Duration,
    pub(crate) remembered: Option<Duration>,
}

/// Looks up all names at once; the reports are in their order.
pub(crate) fn look_up_all(names: &[String], options: Options) -> io::Result<Vec<Report>> {
    scope(|scope| {
        let lookups: Vec<_> = names.iter().map(|name| scope.spawn(move || look_up(name, options))).collect();
        lookups.into_iter().map(|lookup| Ok(lookup.join()?)).collect()
    })
}

fn look_up(name: &str, options: Options) -> Report {
    let once = || {
        let start = now();
        let answer = timeout(options.timeout, || Lookup::of(name).family(options.family).addresses(0));
        (now() - start, answer)
    };
    let (asked, answer) = once();
    let is_remembered = match &answer {
        Ok(_) => true,
        Err(error) => matches!(error.failure(), LookupFailure::NoSuchName | LookupFailure::NoAddress),
    };
    let remembered = is_remembered.then(|| once().0);
    Report { name: name.to_owned(), answer, asked, remembered }
}

/// A line with the name and the times, and one for each address, or for why there is none.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<32} asked {}", self.name, Shown(self.asked))?;
        if let Some(time) = self.remembered {
            write!(f, ", remembered {}", Shown(time))?;
        }
        writeln!(f)?;
        match &self.answer {
            Ok(addresses) => addresses.iter().try_for_each(|address| writeln!(f, "    {}", Address(address))),
            Err(error) => writeln!(f, "  ? {}", error.failure()),
        }
    }
}

/// An address without its port, and with its scope.
struct Address<'a>(&'a SocketAddr);

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V6(address) if address.scope_id() != 0 => {
                write!(f, "{}%{}", address.ip(), address.scope_id())
            }
            other => write!(f, "{}", other.ip()),
        }
    }
}

/// A time in a unit in which it has few digits.
struct Shown(Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            0..1_000 => write!(f, "{}.{} us", micros, self.0.subsec_nanos() / 100 % 10),
            1_000..1_000_000 => write!(f, "{}.{} ms", micros / 1_000, micros / 100 % 10),
            _ => write!(f, "{}.{} s", micros / 1_000_000, micros / 100_000 % 10),
        }
    }
}
