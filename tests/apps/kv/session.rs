//! Commands that need no key: about the connection, the server, and what clients ask when they introduce themselves.

use crate::command::{COMMANDS, Place, Session, printable, wrong_number};
use crate::config::Totals;
use crate::reply::Reply;
use crate::resp::{Arguments, parse_integer};
use crate::shard::Shard;

/// The answer to a command of the session.
pub(crate) fn answer(session: Session, arguments: Arguments<'_>) -> Reply {
    match session {
        Session::Ping => match arguments.len() {
            1 => Reply::Simple("PONG"),
            2 => Reply::bulk(arguments.get(1)),
            _ => wrong_number("PING"),
        },
        Session::Echo => Reply::bulk(arguments.get(1)),
        Session::Select => match parse_integer(arguments.get(1)) {
            Some(0) => Reply::OK,
            Some(_) => Reply::error("ERR DB index is out of range"),
            None => Reply::error("ERR value is not an integer or out of range"),
        },
        Session::Client => client(arguments),
        Session::Config => config(arguments),
        Session::Command => command(arguments),
        Session::Quit | Session::Shutdown => Reply::OK,
        Session::Subscribe | Session::Unsubscribe | Session::Publish => {
            unreachable!("the plan and the connection do these")
        }
    }
}

fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// Libraries say who they are; nothing here depends on it.
fn client(arguments: Arguments<'_>) -> Reply {
    let word = arguments.get(1);
    if is(word, "SETINFO") || is(word, "SETNAME") {
        Reply::OK
    } else if is(word, "GETNAME") {
        Reply::Nil
    } else {
        unknown_subcommand("CLIENT", word)
    }
}

/// `redis-benchmark` prints these two; all others do not exist, which is an empty answer.
fn config(arguments: Arguments<'_>) -> Reply {
    let word = arguments.get(1);
    if !is(word, "GET") {
        return unknown_subcommand("CONFIG", word);
    }
    let known = [("save", ""), ("appendonly", "no")];
    let asked = arguments.iter().skip(2);
    let found = asked.flat_map(|name| known.iter().filter(move |(known, _)| is(name, known)));
    Reply::Array(
        found.flat_map(|(name, value)| [name, value].map(|word| Reply::bulk(word.as_bytes()))).collect(),
    )
}

/// `redis-cli` asks for DOCS to help its user to type, and does without.
fn command(arguments: Arguments<'_>) -> Reply {
    if arguments.len() == 1 {
        return Reply::Array(COMMANDS.iter().map(describe).collect());
    }
    let word = arguments.get(1);
    if is(word, "COUNT") {
        Reply::Integer(COMMANDS.len() as i64)
    } else if is(word, "DOCS") || is(word, "INFO") || is(word, "LIST") {
        Reply::Array(Vec::new())
    } else {
        unknown_subcommand("COMMAND", word)
    }
}

/// Name, arity, flags, first key, last key, step.
fn describe(command: &crate::command::Command) -> Reply {
    let (first, last, step) = match command.place {
        Place::Key(_) => (1, 1, 1),
        Place::Keys { step, .. } => (1, -1, step as i64),
        Place::Session(_) | Place::Every { .. } => (0, 0, 0),
    };
    Reply::Array(vec![
        Reply::bulk(command.name.to_ascii_lowercase().as_bytes()),
        Reply::Integer(command.arity.into()),
        Reply::Array(Vec::new()),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
    ])
}

fn unknown_subcommand(command: &str, word: &[u8]) -> Reply {
    Reply::error(format!("ERR unknown subcommand '{}'. Try {command} HELP.", printable(word)))
}

/// INFO in words. `sums` is what `command::stats` counted, over all machines.
pub(crate) fn info(shard: &Shard, sums: &Reply) -> Reply {
    let Reply::Array(sums) = sums else { return sums.clone() };
    let counts = sums.iter().map(|sum| if let Reply::Integer(count) = sum { *count } else { 0 });
    let counts: Vec<i64> = counts.collect();
    let [keys, expires, memory] = counts[..] else {
        unreachable!("statistics are three numbers: {counts:?}")
    };
    let totals = &shard.totals;
    let uptime = machinarium::now() - shard.started;
    let text = format!(
        "# Server\r\nredis_version:7.0.0\r\nserver_name:machinarium-kv\r\nrun_id:{:016x}\r\ntcp_port:{}\r\n\
         machines:{}\r\nuptime_in_seconds:{}\r\n\r\n\
         # Clients\r\nconnected_clients:{}\r\nmaxclients:{}\r\n\
         client_buffers:{}\r\n\r\n\
         # Memory\r\nused_memory:{memory}\r\nmaxmemory:{}\r\n\r\n\
         # Stats\r\ntotal_connections_received:{}\r\ntotal_commands_processed:{}\r\n\r\n\
         # Keyspace\r\ndb0:keys={keys},expires={expires},avg_ttl=0\r\n",
        shard.started.as_nanos(),
        shard.config.listen.port(),
        shard.machines(),
        uptime.as_secs(),
        Totals::read(&totals.clients),
        shard.config.clients,
        Totals::read(&totals.buffered),
        shard.config.memory,
        Totals::read(&totals.accepted),
        Totals::read(&totals.commands),
    );
    Reply::bulk(text.as_bytes())
}
