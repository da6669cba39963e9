//! The console: a client of the database `pgpool` is answered by the pooler itself. Simple queries only, as psql sends them.

use std::io;
use std::rc::Rc;

use crate::client::Client;
use crate::commands;
use crate::inbox::{Inbox, invalid};
use crate::message::{put, put_error, put_notice, put_ready, put_text, take_text};
use crate::params::Params;
use crate::pooler::Pooler;
use crate::wire::Wire;

/// The longest command.
const LONGEST: usize = 10_000;

/// Serves an admin until he leaves.
pub(crate) fn serve(pooler: &Rc<Pooler>, client: &Client, wire: Wire, inbox: Inbox) {
    if let Err(error) = answer_all(pooler, client, &wire, inbox)
        && machinarium::cancelled(&error).is_none()
        && error.kind() != io::ErrorKind::UnexpectedEof
    {
        pooler.say(&format!("{client}: {error}"));
    }
    wire.close();
}

fn answer_all(pooler: &Rc<Pooler>, client: &Client, wire: &Wire, mut inbox: Inbox) -> io::Result<()> {
    let mut out = Vec::new();
    client.put_login(&mut out);
    let mut params = Params::default();
    let version = format!("15.0 (pgpool {})", env!("CARGO_PKG_VERSION"));
    for (name, value) in
        [("server_version", version.as_str()), ("client_encoding", "UTF8"), ("server_encoding", "UTF8")]
    {
        params.set(name, value);
    }
    params.put(&params, &mut out);
    put_ready(&mut out, b'I');
    loop {
        wire.write_all(&out)?;
        out.clear();
        let header = inbox.message(wire, LONGEST)?;
        let body = inbox.body(header).to_vec();
        inbox.consume(header.total);
        match header.kind {
            b'Q' => {
                let text =
                    take_text(&mut &body[..]).ok_or_else(|| invalid("a malformed Query".to_owned()))?;
                answer(pooler, &String::from_utf8_lossy(text), &mut out);
                put_ready(&mut out, b'I');
            }
            b'X' => return Ok(()),
            b'S' => put_ready(&mut out, b'I'),
            _ => put_error(&mut out, "ERROR", "0A000", "the console knows simple queries only"),
        }
    }
}

fn answer(pooler: &Rc<Pooler>, text: &str, out: &mut Vec<u8>) {
    let commands = text.split(';').map(str::trim).filter(|command| !command.is_empty()).collect::<Vec<_>>();
    if commands.is_empty() {
        put(out, b'I', |_| {});
    }
    for command in commands {
        match commands::run(pooler, command) {
            Ok(commands::Answer::Table(table)) => table.put(out),
            Ok(commands::Answer::Notice(text)) => {
                put_notice(out, &text);
                put(out, b'C', |body| put_text(body, b"SHOW"));
            }
            Ok(commands::Answer::Done(tag)) => put(out, b'C', |body| put_text(body, tag.as_bytes())),
            Err((code, text)) => {
                put_error(out, "ERROR", code, &text);
                return;
            }
        }
    }
}
