//! Names: what `getaddrinfo` answers in a world, and the script's hand on it.
//!
//! [`ask`] does what needs no name server, as glibc does it: services, addresses in all their forms, the loopback.
//! [`Names`] is the one name server of the world, which all hosts ask: each host's name, and the records of the script. It is
//! always reached: cut links do not cut it off. How long an answer takes, and whether there is one, is decided by whoever
//! asks (`kernel/service`).

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::rc::Rc;
use std::time::Duration;

use machinarium::kernel::{Family, Query, ResolveError};

use crate::host::nanos;
use crate::script::World;
use crate::world::Shared;

/// The records of a world.
#[derive(Default)]
pub(crate) struct Names {
    /// Of the script, by name in small letters, without the last dot.
    records: BTreeMap<String, Record>,
    /// Of the hosts themselves, for names of which the script says nothing.
    hosts: BTreeMap<String, Vec<IpAddr>>,
    /// How long every lookup takes at least, in nanoseconds.
    pub(crate) delay: u64,
}

#[derive(Clone)]
enum Record {
    Addresses(Vec<IpAddr>),
    Fails(ResolveError),
}

/// The name server of a world, in the hands of the script.
#[derive(Clone)]
pub struct Dns {
    shared: Rc<Shared>,
}

impl World {
    /// The name server that all hosts ask. It knows every host by its name.
    pub fn dns(&self) -> Dns {
        Dns { shared: self.simulated("World::dns").clone() }
    }
}

impl Dns {
    /// From now on these are the addresses of `name`, in this order. Case does not matter.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        self.put(name, Record::Addresses(addresses.to_vec()));
    }

    /// From now on there is no such name, not even if a host is called so.
    pub fn remove(&self, name: &str) {
        self.fail(name, ResolveError::NoName);
    }

    /// From now on, who asks for `name` is answered with this error.
    pub fn fail(&self, name: &str, error: ResolveError) {
        self.put(name, Record::Fails(error));
    }

    /// From now on every lookup takes at least this long, of names that are not there as well.
    pub fn delay(&self, delay: Duration) {
        self.shared.state.borrow_mut().names.delay = nanos(delay);
    }

    fn put(&self, name: &str, record: Record) {
        let mut state = self.shared.state.borrow_mut();
        if state.sched.trace.is_on() {
            let shown = match &record {
                Record::Addresses(addresses) => format!("{addresses:?}"),
                Record::Fails(error) => format!("{error:?}"),
            };
            state.sched.line(None, format_args!("* the name {name} is now {shown}"));
        }
        state.names.records.insert(canonical(name), record);
    }
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

impl Names {
    /// These are the addresses of `name`.
    pub(crate) fn set(&mut self, name: &str, addresses: Vec<IpAddr>) {
        self.records.insert(canonical(name), Record::Addresses(addresses));
    }

    /// A host is there; several may have one name. IPv6 comes first, as RFC 6724 has it.
    pub(crate) fn add_host(&mut self, name: &str, v4: IpAddr, v6: IpAddr) {
        let addresses = self.hosts.entry(canonical(name)).or_default();
        let fours = addresses.iter().position(IpAddr::is_ipv4).unwrap_or(addresses.len());
        addresses.insert(fours, v6);
        addresses.push(v4);
    }

    /// What the name server says.
    pub(crate) fn look_up(&self, lookup: &Lookup) -> Result<Vec<SocketAddr>, ResolveError> {
        let addresses = match self.records.get(&lookup.name) {
            Some(Record::Addresses(addresses)) => addresses,
            Some(Record::Fails(error)) => return Err(*error),
            None => self.hosts.get(&lookup.name).ok_or(ResolveError::NoName)?,
        };
        let wanted = |address: &&IpAddr| match lookup.family {
            Family::Any => true,
            Family::Inet => address.is_ipv4(),
            Family::Inet6 => address.is_ipv6(),
        };
        let found: Vec<SocketAddr> =
            addresses.iter().filter(wanted).map(|ip| SocketAddr::new(*ip, lookup.port)).collect();
        if found.is_empty() { Err(ResolveError::NoData) } else { Ok(found) }
    }
}

fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// What getaddrinfo makes of a query before it asks anybody.
pub(crate) enum Asked {
    /// It knows the answer.
    Known(Vec<SocketAddr>),
    /// It has to ask.
    Name(Lookup),
}

/// A question to the name server.
pub(crate) struct Lookup {
    pub(crate) name: String,
    port: u16,
    family: Family,
}

/// What of a query needs no name server.
pub(crate) fn ask(query: &Query<'_>) -> Result<Asked, ResolveError> {
    let (node, service) = (bytes(query.node), bytes(query.service));
    if node.is_none() && service.is_none() {
        return Err(ResolveError::NoName);
    }
    let port = port(service.unwrap_or_default(), query.numeric_service)?;
    let Some(node) = node else { return Ok(Asked::Known(this_host(query, port))) };
    let node = str::from_utf8(node).map_err(|_| ResolveError::NoName)?;
    if let Some(ip) = address_of(node) {
        return of_family(ip, query.family, port).map(|address| Asked::Known(vec![address]));
    }
    let name = canonical(node);
    if query.numeric_host || name.is_empty() || node.len() > 255 {
        return Err(ResolveError::NoName);
    }
    if name == "localhost" {
        return Ok(Asked::Known(this_host(&Query { passive: false, ..*query }, port)));
    }
    // A simulated host has addresses of both families, so AI_ADDRCONFIG leaves out nothing.
    Ok(Asked::Name(Lookup { name, port, family: query.family }))
}

/// A star is as nothing.
fn bytes(text: Option<&CStr>) -> Option<&[u8]> {
    text.map(CStr::to_bytes).filter(|text| *text != b"*")
}

/// The port of a service, as `strtoul` and a cast read it.
fn port(service: &[u8], numeric: bool) -> Result<u16, ResolveError> {
    const SERVICES: [(&str, u16); 6] =
        [("domain", 53), ("http", 80), ("https", 443), ("postgresql", 5432), ("smtp", 25), ("ssh", 22)];
    let Ok(text) = str::from_utf8(service) else { return Err(ResolveError::Service) };
    let digits = text.trim_start();
    let negative = digits.starts_with('-');
    let digits = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if text.is_empty() {
        return Ok(0);
    }
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = match digits.parse::<u64>() {
            Ok(number) if negative => number.wrapping_neg(),
            Ok(number) => number,
            Err(_) => u64::MAX, // too long
        };
        let number = number as i32;
        return if number >= 0 { Ok(number as u16) } else { Err(ResolveError::Service) };
    }
    if numeric {
        return Err(ResolveError::NoName);
    }
    let found = SERVICES.iter().find(|(name, _)| *name == text);
    found.map(|(_, port)| *port).ok_or(ResolveError::Service)
}

/// Addresses of the host itself, in the order of RFC 6724.
fn this_host(query: &Query<'_>, port: u16) -> Vec<SocketAddr> {
    let (v4, v6) = match query.passive {
        true => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
        false => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
    };
    let (v4, v6) = (SocketAddr::new(v4.into(), port), SocketAddr::new(v6.into(), port));
    match (query.family, query.passive) {
        (Family::Inet, _) => vec![v4],
        (Family::Inet6, _) => vec![v6],
        (Family::Any, true) => vec![v4, v6],
        (Family::Any, false) => vec![v6, v4],
    }
}

/// An address and the number of its interface.
type Scoped = (IpAddr, u32);

fn of_family((ip, scope): Scoped, family: Family, port: u16) -> Result<SocketAddr, ResolveError> {
    match (ip, family) {
        (IpAddr::V4(ip), Family::Any | Family::Inet) => Ok(SocketAddr::new(ip.into(), port)),
        (IpAddr::V6(ip), Family::Any | Family::Inet6) => Ok(SocketAddrV6::new(ip, port, 0, scope).into()),
        (IpAddr::V6(ip), Family::Inet) => match ip.to_ipv4_mapped() {
            Some(ip) => Ok(SocketAddr::new(ip.into(), port)),
            None => Err(ResolveError::AddrFamily),
        },
        (IpAddr::V4(_), Family::Inet6) => Err(ResolveError::AddrFamily),
    }
}

/// An address in a form of `inet_aton(3)` or `inet_pton(3)`.
fn address_of(text: &str) -> Option<Scoped> {
    if let Some(ip) = old_ipv4(text) {
        return Some((ip.into(), 0));
    }
    let (ip, scope) = text.split_once('%').unwrap_or((text, "0"));
    let scope = match scope {
        "lo" => 1,
        number if number.bytes().all(|byte| byte.is_ascii_digit()) => number.parse().ok()?,
        _ => return None,
    };
    Some((IpAddr::V6(ip.parse().ok()?), scope))
}

/// One to four numbers, decimal, octal or hexadecimal, the last of which fills what is left.
fn old_ipv4(text: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| {
        let (digits, radix) = match part.strip_prefix("0x").or(part.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None if part.len() > 1 && part.starts_with('0') => (&part[1..], 8),
            None => (part, 10),
        };
        // from_str_radix takes a sign, inet_aton does not.
        digits
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit())
            .then(|| u32::from_str_radix(digits, radix).ok())?
    };
    let parts: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, heads) = parts.split_last().filter(|(_, heads)| heads.len() <= 3)?;
    let room = 32 - 8 * heads.len() as u32;
    if heads.iter().any(|head| *head > 255) || u64::from(*last) >= 1 << room {
        return None;
    }
    let head = heads.iter().enumerate().fold(0, |sum, (place, head)| sum | head << (24 - 8 * place));
    Some(Ipv4Addr::from(head | last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_old_forms() {
        let v4 = |text: &str| old_ipv4(text).map(|ip| ip.to_string());
        for (text, ip) in [
            ("1.2.3.4", "1.2.3.4"),
            ("127.1", "127.0.0.1"),
            ("1.2.772", "1.2.3.4"),
            ("0x7f.0.0.01", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("4294967295", "255.255.255.255"),
        ] {
            assert_eq!(v4(text).as_deref(), Some(ip), "{text}");
        }
        for text in ["", "1.2.3.4.5", "256.1", "1.16777216", "4294967296", "1.2.3.", "08", "0x", "+1", "a.b"]
        {
            assert_eq!(v4(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_by_family() {
        let mut names = Names::default();
        let [v4, v6] = ["198.18.0.1", "2001:2::1"].map(|text| text.parse().unwrap());
        names.add_host("Server", v4, v6);
        let look_up = |names: &Names, node: &CStr, family| {
            let query = Query { node: Some(node), service: Some(c"7"), family, ..Query::default() };
            match ask(&query).unwrap() {
                Asked::Known(_) => panic!("{node:?} is no address"),
                Asked::Name(lookup) => names.look_up(&lookup),
            }
        };
        let [v4, v6] = ["198.18.0.1:7", "[2001:2::1]:7"].map(|text| text.parse().unwrap());
        assert_eq!(look_up(&names, c"server", Family::Any), Ok(vec![v6, v4]));
        assert_eq!(look_up(&names, c"SERVER.", Family::Inet), Ok(vec![v4]));
        assert_eq!(look_up(&names, c"server", Family::Inet6), Ok(vec![v6]));
        names.records.insert("server".to_owned(), Record::Addresses(vec![v4.ip()]));
        let query = Query { node: Some(c"server"), family: Family::Inet6, ..Query::default() };
        let Ok(Asked::Name(lookup)) = ask(&query) else { panic!("a name") };
        assert_eq!(names.look_up(&lookup), Err(ResolveError::NoData));
        assert_eq!(look_up(&names, c"serve", Family::Any), Err(ResolveError::NoName));
    }
}
