//! What each command does to the store, and the one table that says which commands there are.
//!
//! A command that touches keys runs on the machine that owns them, as a function of the store, the arguments and the time:
//! no input, no output, no waiting. One of several keys is the same command of one key, done for each, and the answers
//! merged, so it works alike whether its keys live on one machine or on many (where it is atomic per machine only).
//! Commands about the connection or the server are in `session.rs`.
//!
//! Errors are worded as Redis words them: clients match on the words.

use std::sync::Arc;

use crate::reply::Reply;
use crate::resp::{Arguments, parse_integer};
use crate::store::{Expiry, OutOfMemory, Store};

/// A command on the store. Its arity has been checked.
pub(crate) type Run = fn(&mut Store, Arguments<'_>, u64) -> Reply;

/// One line of the table.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// How many arguments with the name: exactly, or at least when negative.
    pub(crate) arity: i32,
    pub(crate) place: Place,
}

/// Where a command is done.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// On the machine that has the connection.
    Session(Session),
    /// On the machine that owns the key, which is argument 1.
    Key(Run),
    /// `run` for each key. The arguments go in groups of `step`, each beginning with its key.
    Keys { run: Run, step: usize, merge: Merge },
    /// On every machine.
    Every { run: Run, merge: Merge },
}

/// The commands that need no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    Ping,
    Echo,
    Select,
    Client,
    Config,
    Command,
    Quit,
    Shutdown,
    Subscribe,
    Unsubscribe,
    Publish,
}

/// How the answers for single keys or from single machines become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    Ok,
    Sum,
    Array,
    /// Position by position, then put in words: INFO.
    Info,
}

const fn command(name: &'static str, arity: i32, place: Place) -> Command {
    Command { name, arity, place }
}

/// The most frequent first, since it is searched from the start.
pub(crate) const COMMANDS: &[Command] = &[
    command("GET", 2, Place::Key(get)),
    command("SET", -3, Place::Key(set)),
    command("PING", -1, Place::Session(Session::Ping)),
    command("INCR", 2, Place::Key(incr)),
    command("MGET", -2, Place::Keys { run: get, step: 1, merge: Merge::Array }),
    command("MSET", -3, Place::Keys { run: set, step: 2, merge: Merge::Ok }),
    command("DEL", -2, Place::Keys { run: del, step: 1, merge: Merge::Sum }),
    command("UNLINK", -2, Place::Keys { run: del, step: 1, merge: Merge::Sum }),
    command("EXISTS", -2, Place::Keys { run: exists, step: 1, merge: Merge::Sum }),
    command("EXPIRE", 3, Place::Key(expire)),
    command("PEXPIRE", 3, Place::Key(pexpire)),
    command("PERSIST", 2, Place::Key(persist)),
    command("TTL", 2, Place::Key(ttl)),
    command("PTTL", 2, Place::Key(pttl)),
    command("ECHO", 2, Place::Session(Session::Echo)),
    command("DBSIZE", 1, Place::Every { run: dbsize, merge: Merge::Sum }),
    command("FLUSHALL", -1, Place::Every { run: flushall, merge: Merge::Ok }),
    command("FLUSHDB", -1, Place::Every { run: flushall, merge: Merge::Ok }),
    command("INFO", -1, Place::Every { run: stats, merge: Merge::Info }),
    command("SELECT", 2, Place::Session(Session::Select)),
    command("CLIENT", -2, Place::Session(Session::Client)),
    command("CONFIG", -2, Place::Session(Session::Config)),
    command("COMMAND", -1, Place::Session(Session::Command)),
    command("PUBLISH", 3, Place::Session(Session::Publish)),
    command("SUBSCRIBE", -2, Place::Session(Session::Subscribe)),
    command("UNSUBSCRIBE", -1, Place::Session(Session::Unsubscribe)),
    command("QUIT", -1, Place::Session(Session::Quit)),
    command("SHUTDOWN", -1, Place::Session(Session::Shutdown)),
];

/// The command that these arguments call, or the error to answer.
pub(crate) fn find(arguments: Arguments<'_>) -> Result<&'static Command, Reply> {
    let name = arguments.get(0);
    let found = COMMANDS.iter().find(|command| command.name.as_bytes().eq_ignore_ascii_case(name));
    let Some(command) = found else {
        return Err(Reply::error(format!("ERR unknown command '{}'", printable(name))));
    };
    let count = i32::try_from(arguments.len()).unwrap_or(i32::MAX);
    let fits = if command.arity < 0 { count >= -command.arity } else { count == command.arity };
    let grouped = match command.place {
        Place::Keys { step, .. } => (arguments.len() - 1).is_multiple_of(step),
        _ => true,
    };
    if fits && grouped { Ok(command) } else { Err(wrong_number(command.name)) }
}

pub(crate) fn wrong_number(name: &str) -> Reply {
    Reply::error(format!("ERR wrong number of arguments for '{}' command", name.to_ascii_lowercase()))
}

/// A client's bytes as part of a line: what would end or hide it is escaped, and it is cut.
pub(crate) fn printable(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(128)].escape_ascii().to_string()
}

impl Merge {
    /// One answer from many. The first error stands for all.
    pub(crate) fn join(self, replies: Vec<Reply>) -> Reply {
        if let Some(error) = replies.iter().find(|reply| matches!(reply, Reply::Error(_))) {
            return error.clone();
        }
        match self {
            Merge::Ok => Reply::OK,
            Merge::Sum => Reply::Integer(replies.iter().map(integer).sum()),
            Merge::Array => Reply::Array(replies),
            Merge::Info => {
                let rows = replies.into_iter().map(|reply| match reply {
                    Reply::Array(row) => row,
                    other => unreachable!("statistics are an array, not {other:?}"),
                });
                let sums = rows.reduce(|sums, row| {
                    let both = sums.iter().zip(&row);
                    both.map(|(sum, item)| Reply::Integer(integer(sum) + integer(item))).collect()
                });
                Reply::Array(sums.unwrap_or_default())
            }
        }
    }
}

fn integer(reply: &Reply) -> i64 {
    match reply {
        Reply::Integer(value) => *value,
        other => unreachable!("a sum is of integers, not of {other:?}"),
    }
}

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const SYNTAX: &str = "ERR syntax error";
const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;

impl From<OutOfMemory> for Reply {
    fn from(_: OutOfMemory) -> Reply {
        Reply::error("OOM command not allowed when used memory > 'maxmemory'.")
    }
}

fn get(store: &mut Store, arguments: Arguments<'_>, now: u64) -> Reply {
    store.get(arguments.get(1), now).map_or(Reply::Nil, |value| Reply::Bulk(value.clone()))
}

/// What SET was asked to do besides setting.
struct SetOptions {
    expiry: Expiry,
    only_new: bool,
    only_old: bool,
    get: bool,
}

fn set(store: &mut Store, arguments: Arguments<'_>, now: u64) -> Reply {
    let (key, value) = (arguments.get(1), arguments.get(2));
    let options = match set_options(arguments, now) {
        Ok(options) => options,
        Err(error) => return error,
    };
    let old = store.get(key, now).cloned();
    let skip = if old.is_some() { options.only_new } else { options.only_old };
    if !skip && let Err(refused) = store.set(key, Arc::from(value), options.expiry, now) {
        return refused.into();
    }
    match old {
        Some(old) if options.get => Reply::Bulk(old),
        _ if options.get || skip => Reply::Nil,
        _ => Reply::OK,
    }
}

fn set_options(arguments: Arguments<'_>, now: u64) -> Result<SetOptions, Reply> {
    let mut options = SetOptions { expiry: Expiry::Never, only_new: false, only_old: false, get: false };
    let mut index = 3;
    while index < arguments.len() {
        let is = |name: &str| arguments.get(index).eq_ignore_ascii_case(name.as_bytes());
        let unit = if is("EX") { Some(SECOND) } else { is("PX").then_some(MILLISECOND) };
        match unit {
            _ if (unit.is_some() || is("KEEPTTL")) && options.expiry != Expiry::Never => {
                return Err(Reply::error(SYNTAX));
            }
            Some(unit) if index + 1 < arguments.len() => {
                index += 1;
                options.expiry = Expiry::At(set_deadline(arguments.get(index), unit, now)?);
            }
            None if is("KEEPTTL") => options.expiry = Expiry::Keep,
            None if is("NX") => options.only_new = true,
            None if is("XX") => options.only_old = true,
            None if is("GET") => options.get = true,
            _ => return Err(Reply::error(SYNTAX)),
        }
        index += 1;
    }
    if options.only_new && options.only_old { Err(Reply::error(SYNTAX)) } else { Ok(options) }
}

fn set_deadline(text: &[u8], unit: u64, now: u64) -> Result<u64, Reply> {
    let count = parse_integer(text).ok_or_else(|| Reply::error(NOT_AN_INTEGER))?;
    let length =
        u64::try_from(count).ok().filter(|&count| count > 0).and_then(|count| count.checked_mul(unit));
    let at = length.and_then(|length| now.checked_add(length));
    at.ok_or_else(|| Reply::error("ERR invalid expire time in 'set' command"))
}

fn del(store: &mut Store, arguments: Arguments<'_>, now: u64) -> Reply {
    Reply::Integer(store.remove(arguments.get(1), now).into())
}

fn exists(store: &mut Store, arguments: Arguments<'_>, now: u64) -> Reply {
    Reply::Integer(store.contains(arguments.get(1), now).into())
}

fn incr(store: &mut Store, arguments: Arguments<'_>, now: u64) -> Reply {
    let key = arguments.get(1);
    let old = match store.get(key, now).map(|value| parse_integer(value)) {
        None => 0,
        Some(Some(value)) => value,
        Some(None) => return Reply::error(NOT_AN_INTEGER),
    };
    let Some(new) = old.checked_add(1) else {
        return Reply::error("ERR increment or decrement would overflow");
    };
    match store.set(key, Arc::from(new.to_string().as_bytes()), Expiry::Keep, now) {
        Ok(()) => Reply::Integer(new),
        Err(refused) => refused.into(),
    }
}

fn expire(store: &mut Store, arguments: Arguments<'_>, now: u64) -> Reply {
    expire_in(store, arguments, SECOND, "expire", now)
}

fn pexpire(store: &mut Store, arguments: Arguments<'_>, now: u64) -> Reply {
    expire_in(store, arguments, MILLISECOND, "pexpire", now)
}

fn expire_in(store: &mut Store, arguments: Arguments<'_>, unit: u64, name: &str, now: u64) -> Reply {
    let Some(count) = parse_integer(arguments.get(2)) else {
        return Reply::error(NOT_AN_INTEGER);
    };
    // A deadline in the past is allowed here, and removes the key.
    let length = u64::try_from(count.max(0)).unwrap_or(0).checked_mul(unit);
    match length.and_then(|length| now.checked_add(length)) {
        Some(at) => Reply::Integer(store.expire_at(arguments.get(1), Some(at), now).into()),
        None => Reply::error(format!("ERR invalid expire time in '{name}' command")),
    }
}

fn persist(store: &mut Store, arguments: Arguments<'_>, now: u64) -> Reply {
    let key = arguments.get(1);
    let had = store.deadline(key, now).flatten().is_some();
    store.expire_at(key, None, now);
    Reply::Integer(had.into())
}

fn ttl(store: &mut Store, arguments: Arguments<'_>, now: u64) -> Reply {
    match remaining(store, arguments.get(1), now) {
        Ok(milliseconds) => Reply::Integer((milliseconds + 500) / 1000),
        Err(none) => none,
    }
}

fn pttl(store: &mut Store, arguments: Arguments<'_>, now: u64) -> Reply {
    remaining(store, arguments.get(1), now).map_or_else(|none| none, Reply::Integer)
}

/// Milliseconds, rounded up: a key that is there has some left. Or the answer for a key without a deadline.
fn remaining(store: &Store, key: &[u8], now: u64) -> Result<i64, Reply> {
    match store.deadline(key, now) {
        None => Err(Reply::Integer(-2)),
        Some(None) => Err(Reply::Integer(-1)),
        Some(Some(at)) => Ok(i64::try_from((at - now).div_ceil(MILLISECOND)).unwrap_or(i64::MAX)),
    }
}

fn dbsize(store: &mut Store, _: Arguments<'_>, now: u64) -> Reply {
    while !store.expire(1024, now) {}
    Reply::Integer(store.len() as i64)
}

fn flushall(store: &mut Store, _: Arguments<'_>, _: u64) -> Reply {
    store.clear();
    Reply::OK
}

/// A row for INFO: keys, keys with a deadline, bytes.
fn stats(store: &mut Store, _: Arguments<'_>, _: u64) -> Reply {
    let row = [store.len(), store.expiring(), store.memory()];
    Reply::Array(row.iter().map(|&count| Reply::Integer(count as i64)).collect())
}
