//! A session of the backend: requests are read one by one and answered as PostgreSQL does, and what a session keeps is watched.
//!
//! | it panics when | because |
//! |---|---|
//! | a statement that is meant to be in a transaction is in none, or in another client's, or the other way round | the connection was given to another client too early |
//! | a client of a session pool speaks where another one has, without a reset between them | it could see what that one has left |
//! | a client of a transaction pool speaks where another one has left something | the same |

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::backend::{Backend, Process, text_of};
use super::sql::{self, Statement, Tag};
use crate::inbox::Inbox;
use crate::message::{put, put_error, put_notice, put_ready, put_text, take_text};
use crate::wire::Wire;

/// The settings of a new session. The first two are reported.
const DEFAULTS: [(&str, &str); 4] =
    [("application_name", ""), ("TimeZone", "UTC"), ("work_mem", "4MB"), ("search_path", "public")];
const REPORTED: usize = 2;

/// The longest message.
const LONGEST: usize = 1 << 20;

/// See the head of the file.
pub(crate) struct Session {
    backend: Rc<Backend>,
    process: Rc<Process>,
    wire: Wire,
    inbox: Inbox,
    out: Vec<u8>,
    is_session_pool: bool,
    settings: BTreeMap<String, String>,
    prepared: BTreeMap<Vec<u8>, String>,
    portal: Option<(String, Vec<u8>)>,
    status: u8,
    /// Whose the transaction is.
    transaction: Option<Tag>,
    /// Who has spoken since the last reset, and whether that has left something.
    owner: Option<Tag>,
    left: bool,
    /// An error came, and everything up to the next Sync is skipped.
    skips: bool,
}

/// SQLSTATE and text.
type Refusal = (&'static str, String);

/// Why a statement ended early.
enum End {
    Refused(Refusal),
    Lost(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Lost(error)
    }
}

fn refused<T>(code: &'static str, text: impl Into<String>) -> Result<T, End> {
    Err(End::Refused((code, text.into())))
}

impl Session {
    pub(crate) fn new(
        backend: Rc<Backend>,
        process: Rc<Process>,
        wire: Wire,
        inbox: Inbox,
        is_session_pool: bool,
    ) -> Session {
        Session {
            backend,
            process,
            wire,
            inbox,
            out: Vec::new(),
            is_session_pool,
            settings: DEFAULTS.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            prepared: BTreeMap::new(),
            portal: None,
            status: b'I',
            transaction: None,
            owner: None,
            left: false,
            skips: false,
        }
    }

    /// Serves until the pooler has gone.
    pub(crate) fn serve(mut self, key: (u32, u32)) -> io::Result<()> {
        for (name, value) in &DEFAULTS[..REPORTED] {
            put_parameter(&mut self.out, name, value);
        }
        put(&mut self.out, b'K', |body| {
            body.extend(key.0.to_be_bytes());
            body.extend(key.1.to_be_bytes());
        });
        put_ready(&mut self.out, b'I');
        loop {
            if !self.out.is_empty() {
                self.backend.dawdle(40)?;
                self.wire.write_all(&self.out)?;
                self.out.clear();
            }
            let (kind, body) = self.message()?;
            if kind == b'X' {
                return Ok(());
            }
            self.process.busy.set(true);
            self.process.cancelled.set(false);
            let result = self.answer(kind, &body);
            self.process.busy.set(false);
            match result {
                Err(End::Lost(error)) => return Err(error),
                Err(End::Refused((code, text))) => {
                    put_error(&mut self.out, "ERROR", code, &text);
                    self.status = if self.status == b'I' { b'I' } else { b'E' };
                    self.skips = kind != b'Q';
                }
                Ok(()) => {}
            }
            if kind == b'Q' || kind == b'S' {
                self.skips &= kind != b'S';
                put_ready(&mut self.out, self.status);
            }
        }
    }

    fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let header = self.inbox.message(&self.wire, LONGEST)?;
        let body = self.inbox.body(header).to_vec();
        self.inbox.consume(header.total);
        Ok((header.kind, body))
    }

    fn answer(&mut self, kind: u8, body: &[u8]) -> Result<(), End> {
        if self.skips && kind != b'S' {
            return Ok(());
        }
        match kind {
            b'Q' => {
                self.prepared.remove(&b""[..]);
                let text = text_of(body.strip_suffix(b"\0").expect("a text"));
                let (tag, statement) = sql::parse(&text).unwrap_or_else(|| panic!("no SQL: {text}"));
                self.execute(tag.as_ref(), &statement)
            }
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'E' => {
                let (text, parameter) = self.portal.clone().expect("a Bind before each Execute");
                let (_, statement) = sql::parse(&text).expect("a statement");
                let tag = Tag::parse(&text_of(&parameter));
                self.execute(tag.as_ref(), &statement)
            }
            b'C' => {
                self.prepared.remove(body[1..].strip_suffix(b"\0").expect("a name"));
                put(&mut self.out, b'3', |_| {});
                Ok(())
            }
            b'D' => {
                if !self.prepared.contains_key(body[1..].strip_suffix(b"\0").expect("a name")) {
                    return refused("26000", format!("there is no statement {:?}", text_of(&body[1..])));
                }
                put(&mut self.out, b't', |body| body.extend([0; 2]));
                put(&mut self.out, b'n', |_| {});
                Ok(())
            }
            // The rest of a COPY that has failed.
            b'd' | b'c' | b'f' => Ok(()),
            b'H' | b'S' => Ok(()),
            other => panic!("a message of kind {:?}", char::from(other)),
        }
    }

    fn parse(&mut self, mut body: &[u8]) -> Result<(), End> {
        let name = take_text(&mut body).expect("a name").to_vec();
        let text = text_of(take_text(&mut body).expect("a text"));
        if name.is_empty() {
            self.prepared.remove(&name);
        }
        if sql::parse(&text).is_none() {
            return refused("42601", format!("syntax error in {text}"));
        }
        if self.prepared.contains_key(&name) {
            return refused("42P05", format!("there is a statement {:?} already", text_of(&name)));
        }
        self.prepared.insert(name, text);
        put(&mut self.out, b'1', |_| {});
        Ok(())
    }

    fn bind(&mut self, mut body: &[u8]) -> Result<(), End> {
        take_text(&mut body).expect("a portal");
        let name = take_text(&mut body).expect("a name");
        let Some(text) = self.prepared.get(name).cloned() else {
            return refused("26000", format!("there is no statement {:?}", text_of(name)));
        };
        // No formats, one parameter, and its length.
        self.portal = Some((text, body[8..body.len() - 2].to_vec()));
        put(&mut self.out, b'2', |_| {});
        Ok(())
    }

    fn execute(&mut self, tag: Option<&Tag>, statement: &Statement) -> Result<(), End> {
        if let Some(tag) = tag {
            self.watch(tag);
        }
        if self.status == b'E' && !matches!(statement, Statement::Rollback | Statement::Commit) {
            return refused("25P02", "current transaction is aborted");
        }
        if self.backend.random(20) == 0 {
            put_notice(&mut self.out, tag.map_or(String::new(), Tag::mark).as_str());
        }
        match statement {
            Statement::Begin | Statement::Commit | Statement::Rollback => self.transact(tag, statement),
            Statement::Rows(count) => (0..*count).for_each(|row| self.row(tag, &row.to_string())),
            Statement::Sleep(time) => {
                self.sleep(*time)?;
                self.row(tag, "slept");
            }
            Statement::Echo(text) => self.row(tag, text),
            Statement::Fail => return refused("22012", "division by zero"),
            Statement::Show(name) => {
                let value = self.settings[name].clone();
                self.row(tag, &value);
            }
            Statement::Set(name, value) => {
                self.left |= !DEFAULTS[..REPORTED].iter().any(|(reported, _)| reported == name);
                self.set(name, Some(value));
            }
            Statement::Leave(_) => self.left = true,
            Statement::CopyIn(fails) => self.copy_in(tag, *fails)?,
            Statement::CopyOut(count) => self.copy_out(tag, *count),
            Statement::DiscardAll => {
                DEFAULTS.iter().for_each(|(name, _)| self.set(name, None));
                self.prepared.clear();
                (self.owner, self.left) = (None, false);
            }
            Statement::Configure(all) => {
                all.iter().for_each(|(name, value)| self.set(name, value.as_deref()));
            }
        }
        put(&mut self.out, b'C', |body| put_text(body, command(statement).as_bytes()));
        Ok(())
    }

    /// See the head of the file.
    fn watch(&mut self, tag: &Tag) {
        if let Some(begun) = &self.transaction {
            assert!(tag.within && begun.client == tag.client, "{tag:?} is in the transaction of {begun:?}");
        } else {
            assert!(!tag.within, "{tag:?} is in no transaction");
        }
        if let Some(owner) = self.owner.as_ref().filter(|owner| owner.client != tag.client) {
            assert!(!self.is_session_pool, "{tag:?} speaks after {owner:?}, without a reset");
            assert!(!self.left, "{tag:?} sees what {owner:?} has left");
        }
        self.owner = Some(tag.clone());
    }

    fn transact(&mut self, tag: Option<&Tag>, statement: &Statement) {
        let begins = *statement == Statement::Begin;
        self.status = if begins { b'T' } else { b'I' };
        self.transaction =
            begins.then(|| Tag { within: true, ..tag.expect("a client begins transactions").clone() });
    }

    fn set(&mut self, name: &str, value: Option<&str>) {
        let default = DEFAULTS.iter().position(|(known, _)| *known == name);
        let default = default.unwrap_or_else(|| panic!("there is no setting {name:?}"));
        let value = value.unwrap_or(DEFAULTS[default].1);
        let before = self.settings.insert(name.to_owned(), value.to_owned());
        if default < REPORTED && before.as_deref() != Some(value) {
            put_parameter(&mut self.out, name, value);
        }
    }

    /// Can be cancelled.
    fn sleep(&self, milliseconds: u64) -> Result<(), End> {
        let end = machinarium::now() + Duration::from_millis(milliseconds);
        loop {
            self.look()?;
            if machinarium::now() >= end {
                return Ok(());
            }
            machinarium::sleep(Duration::from_millis(2)).map_err(io::Error::from)?;
        }
    }

    fn look(&self) -> Result<(), End> {
        match self.process.cancelled.take() {
            true => refused("57014", "canceling statement due to user request"),
            false => Ok(()),
        }
    }

    fn copy_in(&mut self, tag: Option<&Tag>, fails: u64) -> Result<(), End> {
        put(&mut self.out, b'G', |body| body.extend([0; 3]));
        self.wire.write_all(&self.out)?;
        self.out.clear();
        for count in 1.. {
            let (kind, body) = self.message()?;
            self.look()?;
            match kind {
                b'd' if count == fails => return refused("22P04", "this data is not wanted"),
                b'd' => {
                    let (data, tag) = (text_of(&body), tag.expect("a client's").mark());
                    assert!(data.starts_with(&tag), "{data:?} is in the COPY of {tag:?}");
                }
                b'c' => break,
                b'f' => return refused("57014", "COPY from stdin failed"),
                b'X' => return Err(End::Lost(io::ErrorKind::UnexpectedEof.into())),
                // While it copies, these are not for it.
                b'H' | b'S' => {}
                other => panic!("a message of kind {:?} in a COPY", char::from(other)),
            }
        }
        Ok(())
    }

    fn copy_out(&mut self, tag: Option<&Tag>, count: usize) {
        put(&mut self.out, b'H', |body| body.extend([0; 3]));
        for row in 0..count {
            let text = format!("{} {row}", tag.expect("a client's").mark());
            put(&mut self.out, b'd', |body| body.extend(text.as_bytes()));
        }
        put(&mut self.out, b'c', |_| {});
    }

    fn row(&mut self, tag: Option<&Tag>, value: &str) {
        let mark = tag.map_or(String::new(), Tag::mark);
        put(&mut self.out, b'D', |body| {
            body.extend(2_u16.to_be_bytes());
            for text in [&mark, value] {
                body.extend((text.len() as u32).to_be_bytes());
                body.extend(text.as_bytes());
            }
        });
    }
}

fn put_parameter(out: &mut Vec<u8>, name: &str, value: &str) {
    put(out, b'S', |body| {
        put_text(body, name.as_bytes());
        put_text(body, value.as_bytes());
    });
}

/// The tag of CommandComplete.
fn command(statement: &Statement) -> &'static str {
    match statement {
        Statement::Begin => "BEGIN",
        Statement::Commit => "COMMIT",
        Statement::Rollback => "ROLLBACK",
        Statement::Set(..) => "SET",
        Statement::Leave(tag) => tag,
        Statement::CopyIn(_) | Statement::CopyOut(_) => "COPY 1",
        Statement::DiscardAll => "DISCARD ALL",
        Statement::Show(_) => "SHOW",
        _ => "SELECT 1",
    }
}
