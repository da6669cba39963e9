//! What a client sends, on its way to a server: passed on as it came, in one piece, but for prepared statements.
//!
//! A scan reads the headers of what has come, notes in the flow which replies are to be expected, and says which bytes are to be sent. Only
//! where a name is to be replaced, or a message to be put in between, are bytes copied: then all that is to be sent is in `out`.
//!
//! Large messages need not be there as a whole. What the scan must look into must: a Parse; of a Bind its beginning, with the names.
//!
//! | the client sends | the server gets (in a transaction pool) | the client sees |
//! |---|---|---|
//! | Parse of a name | the same of the server's name; if it has that already, a Close of nothing | ParseComplete |
//! | Bind, Describe of a name | the same, behind a Parse if it does not have the statement | the reply, without ParseComplete |
//! | Close of a name | a Close of nothing: others may use the statement | CloseComplete |
//!
//! A Close of nothing is answered in its turn, which is what a reply of the pooler's own could only be by counting all others.

use std::io;
use std::rc::Rc;

use crate::flow::{Closed, Expected, Flow, Parsed, Shown, Undo};
use crate::inbox::invalid;
use crate::message::{HEADER, Header, put, put_text, take_text};
use crate::server::Server;
use crate::statements::{Catalogue, LONGEST, Names, Prepared, Statement, server_name};
use crate::traces;

/// Where the names of a Bind must have ended.
const NAMES: usize = 8 << 10;

/// The name of no statement on any server. With something behind it, too: so a client that names a statement it does not have is told so.
const NOTHING: &[u8] = b"pgpool?";

/// What a client sends. Kept over the transactions of a session.
#[derive(Default)]
pub(crate) struct Requests {
    /// How many bytes of a message are still to come.
    rest: usize,
    /// Whether statements are shared, and so renamed.
    shares: bool,
}

/// What a scan has found.
pub(crate) struct Batch {
    /// The bytes to be sent, if `out` is empty; else those in `out` are.
    pub(crate) verbatim: std::ops::Range<usize>,
    /// How many bytes are done with.
    pub(crate) used: usize,
    /// The client says goodbye.
    pub(crate) ends: bool,
}

/// What a client's statements are looked up in.
pub(crate) struct Book<'a> {
    pub(crate) client: u64,
    pub(crate) names: &'a mut Names,
    pub(crate) catalogue: &'a Catalogue,
}

impl Requests {
    pub(crate) fn new(shares: bool) -> Requests {
        Requests { rest: 0, shares }
    }

    /// See the head of the file.
    pub(crate) fn scan(
        &mut self,
        bytes: &[u8],
        server: &Server,
        book: Book<'_>,
        out: &mut Vec<u8>,
    ) -> io::Result<Batch> {
        let (mut flow, mut prepared) = (server.flow.borrow_mut(), server.prepared.borrow_mut());
        let first = self.rest.min(bytes.len());
        self.rest -= first;
        let mut scan =
            Scan { bytes, start: 0, at: first, out, server, flow: &mut flow, prepared: &mut prepared, book };
        let mut ends = false;
        while let Some(header) = Header::of(&bytes[scan.at..])? {
            if header.kind == b'X' {
                ends = true;
                break;
            }
            let here = &bytes[scan.at..];
            let there = here.len().min(header.total);
            let went = if self.shares { scan.shared(header, &here[..there])? } else { scan.plain(header)? };
            if !went {
                break;
            }
            scan.at += there;
            self.rest = header.total - there;
            if self.rest > 0 {
                break;
            }
        }
        scan.flow.within = self.rest > 0;
        let (start, used) = (scan.start, scan.at);
        if !out.is_empty() {
            out.extend(&bytes[start..used]);
        }
        Ok(Batch { verbatim: start..used, used, ends })
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    /// What is before it is in `out`, or not to be sent.
    start: usize,
    at: usize,
    out: &'a mut Vec<u8>,
    server: &'a Server,
    flow: &'a mut Flow,
    prepared: &'a mut Prepared,
    book: Book<'a>,
}

impl Scan<'_> {
    /// A message that goes as it is.
    fn plain(&mut self, header: Header) -> io::Result<bool> {
        match header.kind {
            b'Q' | b'F' => self.flow.query(),
            b'S' => self.flow.sync(),
            b'c' | b'f' => self.flow.copy_end(),
            b'P' | b'B' | b'D' | b'E' | b'C' | b'H' => self.flow.extended(),
            b'd' => {}
            other => {
                return Err(invalid(format!("the client sends a message of kind {:?}", char::from(other))));
            }
        }
        Ok(true)
    }

    /// A message of a client whose statements are shared. Whether enough of it is there.
    fn shared(&mut self, header: Header, message: &[u8]) -> io::Result<bool> {
        let is_whole = message.len() == header.total;
        match header.kind {
            b'P' if header.total > LONGEST => Err(invalid(format!("a Parse of {} bytes", header.total))),
            b'P' | b'C' | b'D' if !is_whole => Ok(false),
            b'P' => self.parse(message),
            b'B' => self.bind(header, message, is_whole),
            b'D' => self.describe(message),
            b'C' => self.close(message),
            b'Q' => {
                // It does away with the unnamed statement.
                self.book.names.unnamed.clear();
                self.prepared.unnamed = None;
                // Of a long one, not all is there to be looked at.
                self.touch(!is_whole || traces::may_be_left_by(message));
                self.plain(header)
            }
            b'F' => {
                self.touch(true);
                self.plain(header)
            }
            _ => self.plain(header),
        }
    }

    fn parse(&mut self, message: &[u8]) -> io::Result<bool> {
        let mut text = &message[HEADER..];
        let name = take_text(&mut text).ok_or_else(malformed)?;
        if name.is_empty() {
            self.book.names.unnamed.clear();
            self.book.names.unnamed.extend(message);
            self.prepared.unnamed = Some(self.book.client);
            self.touch(traces::may_be_left_by(text));
            let undo = Some(Undo { name: Box::default(), meant: None });
            self.flow.expect(Expected::Parsed(Parsed { shown: true, statement: None, undo }));
            return Ok(true);
        }
        if let Some(known) = self.book.names.get(name).cloned() {
            // The server says what is wrong: it has this one already.
            self.provide(&known);
            self.replace(message.len());
            put_parse(self.out, known.id, text);
            self.flow.expect(Expected::Parsed(Parsed { shown: true, statement: None, undo: None }));
            return Ok(true);
        }
        let statement = self.book.catalogue.statement(text);
        self.book.names.set(name, statement.clone());
        let undo = Some(Undo { name: name.into(), meant: None });
        if self.prepared.use_now(statement.id) {
            self.replace(message.len());
            self.put_nothing(Closed { shown: Shown::AsParsed, statement: None, undo });
        } else {
            self.make_room();
            self.replace(message.len());
            put_parse(self.out, statement.id, text);
            self.prepared.add(statement.id);
            let parsed = Parsed { shown: true, statement: Some(statement.id), undo };
            self.flow.expect(Expected::Parsed(parsed));
        }
        Ok(true)
    }

    fn bind(&mut self, header: Header, message: &[u8], is_whole: bool) -> io::Result<bool> {
        let mut rest = &message[HEADER..];
        let names = take_text(&mut rest).and_then(|portal| Some((portal, take_text(&mut rest)?)));
        let Some((portal, name)) = names else {
            return if is_whole || message.len() > NAMES { Err(malformed()) } else { Ok(false) };
        };
        self.flow.extended();
        if let Some(known) = self.known(name) {
            let length = header.total - 1 - name.len() + known.len();
            let length = u32::try_from(length).map_err(|_| malformed())?;
            self.replace(message.len() - rest.len());
            self.out.push(b'B');
            self.out.extend(length.to_be_bytes());
            put_text(self.out, portal);
            put_text(self.out, &known);
        }
        Ok(true)
    }

    fn describe(&mut self, message: &[u8]) -> io::Result<bool> {
        let (what, name) = named(message)?;
        self.flow.extended();
        if what == b'S'
            && let Some(known) = self.known(name)
        {
            self.replace(message.len());
            put_named(self.out, b'D', &known);
        }
        Ok(true)
    }

    fn close(&mut self, message: &[u8]) -> io::Result<bool> {
        let (what, name) = named(message)?;
        let closed = |undo| Closed { shown: Shown::AsIs, statement: None, undo };
        if what == b'S' && !name.is_empty() {
            let meant = self.book.names.forget(name);
            self.replace(message.len());
            self.put_nothing(closed(Some(Undo { name: name.into(), meant })));
            return Ok(true);
        }
        if what == b'S' {
            self.book.names.unnamed.clear();
            self.prepared.unnamed = None;
        }
        self.flow.expect(Expected::Closed(closed(None)));
        Ok(true)
    }

    /// The server's name of a statement that the client means, which the server has when this message comes. `None`: the name stays.
    fn known(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        if name.is_empty() {
            return self.unnamed();
        }
        match self.book.names.get(name).cloned() {
            Some(statement) => {
                self.provide(&statement);
                self.touch(statement.leaves);
                Some(server_name(statement.id).into_bytes())
            }
            None => Some([NOTHING, name].concat()),
        }
    }

    fn unnamed(&mut self) -> Option<Vec<u8>> {
        if self.prepared.unnamed == Some(self.book.client) {
            return None;
        }
        if self.book.names.unnamed.is_empty() {
            return Some(NOTHING.to_vec());
        }
        self.insert();
        self.out.extend(&self.book.names.unnamed);
        self.touch(traces::may_be_left_by(&self.book.names.unnamed));
        self.prepared.unnamed = Some(self.book.client);
        self.flow.expect(Expected::Parsed(Parsed { shown: false, statement: None, undo: None }));
        None
    }

    /// Notes whether something may be left after what is sent.
    fn touch(&self, leaves: bool) {
        if leaves {
            self.server.touched.set(true);
        }
    }

    /// Sees to it that the server has a statement.
    fn provide(&mut self, statement: &Rc<Statement>) {
        if self.prepared.use_now(statement.id) {
            return;
        }
        self.make_room();
        self.insert();
        put_parse(self.out, statement.id, &statement.text);
        self.prepared.add(statement.id);
        let parsed = Parsed { shown: false, statement: Some(statement.id), undo: None };
        self.flow.expect(Expected::Parsed(parsed));
    }

    fn make_room(&mut self) {
        if let Some(id) = self.prepared.surplus() {
            self.insert();
            put_named(self.out, b'C', server_name(id).as_bytes());
            let closed = Closed { shown: Shown::Not, statement: Some(id), undo: None };
            self.flow.expect(Expected::Closed(closed));
        }
    }

    fn put_nothing(&mut self, closed: Closed) {
        put_named(self.out, b'C', NOTHING);
        self.flow.expect(Expected::Closed(closed));
    }

    /// What comes next is in `out`, before the message here.
    fn insert(&mut self) {
        self.out.extend(&self.bytes[self.start..self.at]);
        self.start = self.at;
    }

    /// The same, in the place of so many bytes of the message here.
    fn replace(&mut self, count: usize) {
        self.insert();
        self.start = self.at + count;
    }
}

fn put_parse(out: &mut Vec<u8>, id: u64, text: &[u8]) {
    put(out, b'P', |body| {
        put_text(body, server_name(id).as_bytes());
        body.extend(text);
    });
}

fn put_named(out: &mut Vec<u8>, kind: u8, name: &[u8]) {
    put(out, kind, |body| {
        body.push(b'S');
        put_text(body, name);
    });
}

/// What Describe and Close are about: a statement or a portal, and its name.
fn named(message: &[u8]) -> io::Result<(u8, &[u8])> {
    let (what, mut rest) = message[HEADER..].split_first().ok_or_else(malformed)?;
    let name = take_text(&mut rest).filter(|_| rest.is_empty()).ok_or_else(malformed)?;
    Ok((*what, name))
}

fn malformed() -> io::Error {
    invalid("a malformed message of the extended protocol".to_owned())
}
