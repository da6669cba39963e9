//! Names: what `getaddrinfo` says, asked on threads that may block, once for all who want to know the same.
//!
//! One cache a process, shared by its machines (`table.rs` has its states). Whoever asks for what is not known starts a lookup on the
//! process's pool for blocking calls and waits for it as everybody else does who asks the same meanwhile: the lookup is nobody's,
//! so a deadline or a cancellation ends one wait and no more, and the answer is there for the next. No machine waits at its end
//! for a lookup that hangs.
//!
//! `getaddrinfo` decides everything else: /etc/hosts, search domains, the order of addresses (RFC 6724). It does not tell how long an
//! answer holds; `Tuning::dns_ttl` and `dns_negative_ttl` say so. Addresses written as such are never looked up. Names of services
//! are not either: ports are numbers.

mod error;
mod table;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use error::{LookupError, LookupFailure};

use crate::error::Misuse;
use crate::kernel::{Clock, Family, Instant, Query};
use crate::machine::block::block;
use crate::machine::{Machine, Reason, current};
use crate::pool;
use crate::shared::lock::Lock;
use table::{Answer, Asked, Flight, Question, Table};

/// The addresses of `host`, each with `port`, in the order in which they are to be tried: at least one.
///
/// Short for [`Lookup`] with its defaults.
///
/// # Errors
/// [`LookupError`] says why there is none. If the caller is cancelled or a deadline passes, the lookup goes on for others who
/// ask the same, and its answer is remembered.
///
/// ```
/// use machinarium::net::lookup;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let addresses = lookup("localhost", 5432)?;
///     assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 5432));
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, LookupError> {
    Lookup::of(host).addresses(port)
}

/// A question for the addresses of a host.
///
/// ```
/// use machinarium::net::{Family, Lookup};
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let addresses = Lookup::of("localhost").family(Family::Inet).addresses(80)?;
///     assert!(addresses.iter().all(|address| address.is_ipv4()));
///     Ok(())
/// });
/// result.unwrap();
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    host: &'a str,
    family: Family,
    address_config: bool,
}

impl<'a> Lookup<'a> {
    /// For all addresses of `host`: a name, or an address in any form that `getaddrinfo(3)` takes.
    pub fn of(host: &'a str) -> Lookup<'a> {
        Lookup { host, family: Family::Any, address_config: false }
    }

    /// For those of one family only.
    pub fn family(mut self, family: Family) -> Lookup<'a> {
        self.family = family;
        self
    }

    /// `AI_ADDRCONFIG`: only for those of families of which this host has an address itself, its loopback not counted. Default:
    /// for all.
    pub fn address_config(mut self, on: bool) -> Lookup<'a> {
        self.address_config = on;
        self
    }

    /// Asks, and waits for the answer unless it is known.
    ///
    /// # Errors
    /// As for [`lookup`].
    pub fn addresses(self, port: u16) -> Result<Vec<SocketAddr>, LookupError> {
        let answer = match self.host.parse::<IpAddr>() {
            Ok(ip) => self.literal(ip),
            Err(_) => self.ask(),
        };
        let with_port = |address: &SocketAddr| {
            let mut address = *address;
            address.set_port(port);
            address
        };
        answer
            .map(|addresses| addresses.iter().map(with_port).collect())
            .map_err(|failure| LookupError::new(self.host, failure))
    }

    fn literal(self, ip: IpAddr) -> Answer {
        let wanted = match self.family {
            Family::Any => true,
            Family::Inet => ip.is_ipv4(),
            Family::Inet6 => ip.is_ipv6(),
        };
        if wanted { Ok(Arc::new([SocketAddr::new(ip, 0)])) } else { Err(LookupFailure::NoAddress) }
    }

    fn ask(self) -> Answer {
        let host = error::text_of(self.host)?;
        let machine = current::machine().ok_or(LookupFailure::Wait(Misuse::NoMachine.into()))?;
        machine.operation().map_err(LookupFailure::Wait)?;
        let question = Arc::new(Question { host, family: self.family, address_config: self.address_config });
        let names = machine.process().value(|| Names::new(machine));
        let now = machine.now();
        match names.table.with(|table| table.ask(&question, now)) {
            Asked::Known(answer) => answer,
            Asked::InFlight(flight) => wait(&flight),
            Asked::Start(flight) => {
                names.start_worker(machine);
                wait(&flight)
            }
        }
    }
}

/// Waits for a lookup, which does not care.
fn wait(flight: &Flight) -> Answer {
    let waited = block(&mut flight.landed.waiting(), || Reason::of("name lookup"), Instant::FAR);
    match (flight.answer(), waited) {
        // What has come in the same instant is delivered.
        (Some(answer), _) => answer.clone(),
        (None, Err(error)) => Err(LookupFailure::Wait(error)),
        (None, Ok(())) => unreachable!("a flight lands with its answer"),
    }
}

/// What the machines of a process know of names.
struct Names {
    table: Lock<Table>,
}

impl Names {
    fn new(machine: &Machine) -> Names {
        Names { table: Lock::new(Table::new(&machine.tuning)) }
    }

    fn start_worker(self: &Arc<Names>, machine: &Machine) {
        let names = self.clone();
        pool::start(machine, move |thread| match thread {
            Ok(()) => names.work(),
            Err(errno) => {
                let stranded = names.table.with(Table::no_worker);
                stranded.iter().for_each(|flight| flight.land(table::no_thread(errno)));
            }
        });
    }

    /// Asks until there is nothing more to ask. On a thread that may block.
    fn work(&self) {
        let kernel = current::kernel();
        while let Some(question) = self.table.with(Table::next) {
            let query = Query {
                node: Some(&question.host),
                family: question.family,
                address_config: question.address_config,
                ..Query::default()
            };
            let answer: Answer = match kernel.getaddrinfo(&query) {
                Ok(addresses) if addresses.is_empty() => Err(LookupFailure::NoAddress),
                Ok(addresses) => Ok(addresses.into()),
                Err(error) => Err(error.into()),
            };
            let now = kernel.clock_gettime(Clock::Monotonic);
            self.table.with(|table| table.answered(&question, &answer, now)).land(answer);
        }
    }
}
