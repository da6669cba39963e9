//! PostgreSQL, as the hunt has it: its protocol, transactions, prepared statements and settings, and no data. It knows whose each statement is
//! (`sql.rs`), and panics when a session shows one client what another has left in it (`session.rs`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use machinarium::net::{TcpListener, TcpStream};
use machinarium::tls::ServerConfig;

use super::session::Session;
use crate::cancel;
use crate::common::init::keep_starting;
use crate::common::place::Certificate;
use crate::common::random::Random;
use crate::connect::{SSL_REQUEST, read_key};
use crate::inbox::Inbox;
use crate::message::{put, put_text, take_text};
use crate::scram::{self, Verifier};
use crate::wire::{Wire, keep_alive};

/// How a backend is.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: Option<Certificate>,
    /// Whoever comes shows this password; `None`: it trusts all.
    pub(crate) verifier: Option<Verifier>,
    pub(crate) seed: u64,
    pub(crate) census: Census,
}

/// How many sessions there are, for the script to see.
#[derive(Clone, Default, Debug)]
pub(crate) struct Census(Arc<AtomicUsize>);

impl Census {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// One that is counted.
pub(crate) struct Counted(Census);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// What the sessions of a process share.
pub(crate) struct Backend {
    task: Task,
    random: RefCell<Random>,
    sessions: RefCell<BTreeMap<u32, Rc<Process>>>,
    last: Cell<u32>,
}

/// A session as cancel requests see it.
#[derive(Default)]
pub(crate) struct Process {
    secret: u32,
    /// It does something that could be cancelled.
    pub(crate) busy: Cell<bool>,
    pub(crate) cancelled: Cell<bool>,
}

/// The main function of its host.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    // Those of a process that was killed are no more.
    task.census.0.store(0, Relaxed);
    keep_starting(|begun| {
        machinarium::run(|| {
            let tls = task.certificate.as_ref().map(Certificate::config).transpose()?;
            let listener = TcpListener::bind(task.address)?;
            begun.set(true);
            let backend = Rc::new(Backend {
                task: task.clone(),
                random: RefCell::new(Random(task.seed ^ machinarium::now().as_nanos())),
                sessions: RefCell::default(),
                last: Cell::new(0),
            });
            loop {
                let (stream, _) = listener.accept()?;
                let (backend, tls) = (backend.clone(), tls.clone());
                // Without a stack for it, the connection is closed; and how it ends is the pooler's concern.
                let _ = machinarium::try_spawn("session", move || backend.admit(stream, tls.as_ref()));
            }
        })
    })
}

impl Backend {
    pub(crate) fn random(&self, end: usize) -> usize {
        self.random.borrow_mut().below(end)
    }

    /// Lets some time pass, or none.
    pub(crate) fn dawdle(&self, most: usize) -> io::Result<()> {
        if self.random(3) != 0 {
            return Ok(());
        }
        Ok(machinarium::sleep(Duration::from_millis(self.random(most) as u64))?)
    }

    fn admit(self: &Rc<Backend>, stream: TcpStream, tls: Option<&ServerConfig>) -> io::Result<()> {
        stream.set_nodelay(true)?;
        // As PostgreSQL's defaults would, only sooner: a session whose pooler was cut off ends.
        keep_alive(&stream, Some(Duration::from_secs(2)))?;
        let mut wire = Wire::Plain(stream);
        loop {
            let (kind, body) = read_first(&wire)?;
            match (kind, wire, tls) {
                (SSL_REQUEST, Wire::Plain(stream), Some(tls)) => {
                    stream.write_all(b"S")?;
                    wire = Wire::Tls(Box::new(tls.accept(stream)?));
                }
                (SSL_REQUEST, plain, _) => {
                    plain.write_all(b"N")?;
                    wire = plain;
                }
                (cancel::REQUEST, ..) => return self.cancel(&body),
                (_, wire, _) => return self.log_in(wire, &body),
            }
        }
    }

    /// What a session does is cancelled before the connection of the request is closed.
    fn cancel(&self, body: &[u8]) -> io::Result<()> {
        self.dawdle(30)?;
        let (process, secret) = read_key(body).expect("a key");
        let found = self.sessions.borrow().get(&process).cloned();
        if let Some(process) = found.filter(|process| process.secret == secret && process.busy.get()) {
            process.cancelled.set(true);
        }
        Ok(())
    }

    fn log_in(self: &Rc<Backend>, wire: Wire, mut body: &[u8]) -> io::Result<()> {
        let mut options = BTreeMap::new();
        while let (Some(name), Some(value)) = (take_text(&mut body), take_text(&mut body)) {
            options.insert(text_of(name), text_of(value));
        }
        let mut inbox = Inbox::default();
        self.authenticate(&wire, &mut inbox)?;
        let id = self.last.get() + 1;
        self.last.set(id);
        let secret = self.random.borrow_mut().next() as u32;
        let process = Rc::new(Process { secret, ..Process::default() });
        self.sessions.borrow_mut().insert(id, process.clone());
        self.task.census.0.fetch_add(1, Relaxed);
        let _counted = Counted(self.task.census.clone());
        let is_session_pool = options.get("database").is_some_and(|name| name == "session");
        let session = Session::new(self.clone(), process, wire, inbox, is_session_pool);
        let result = session.serve((id, secret));
        self.sessions.borrow_mut().remove(&id);
        result
    }

    fn authenticate(&self, wire: &Wire, inbox: &mut Inbox) -> io::Result<()> {
        let mut out = Vec::new();
        if let Some(verifier) = &self.task.verifier {
            let binding = match wire {
                Wire::Tls(stream) => stream.server_end_point(),
                Wire::Plain(_) | Wire::Unix(_) => None,
            };
            put(&mut out, b'R', |body| {
                body.extend(10_u32.to_be_bytes());
                for name in binding.iter().map(|_| scram::PLUS).chain([scram::PLAIN]) {
                    put_text(body, name.as_bytes());
                }
                body.push(0);
            });
            wire.write_all(&out)?;
            let mut first = &password(wire, inbox)?[..];
            let mechanism = text_of(take_text(&mut first).expect("a mechanism"));
            let chosen = binding.as_deref().filter(|_| mechanism == scram::PLUS);
            let server =
                scram::Server::begin(verifier.clone(), &text_of(&first[4..]), chosen, binding.is_some());
            let server = server.expect("the pooler's SCRAM is right");
            say(&mut out, 11, &server.first());
            wire.write_all(&out)?;
            let last = server.finish(&text_of(&password(wire, inbox)?)).expect("the password is right");
            say(&mut out, 12, &last);
            wire.write_all(&out)?;
            out.clear();
        }
        say_ok(&mut out);
        wire.write_all(&out)
    }
}

fn say(out: &mut Vec<u8>, step: u32, data: &str) {
    out.clear();
    put(out, b'R', |body| {
        body.extend(step.to_be_bytes());
        body.extend(data.as_bytes());
    });
}

fn say_ok(out: &mut Vec<u8>) {
    put(out, b'R', |body| body.extend([0; 4]));
}

fn password(wire: &Wire, inbox: &mut Inbox) -> io::Result<Vec<u8>> {
    let header = inbox.message(wire, 10_000)?;
    assert_eq!(header.kind, b'p', "the pooler answers SASL");
    let body = inbox.body(header).to_vec();
    inbox.consume(header.total);
    Ok(body)
}

fn read_first(wire: &Wire) -> io::Result<(u32, Vec<u8>)> {
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("4 bytes"));
    let mut head = [0; 8];
    read_exact(wire, &mut head)?;
    let mut body = vec![0; word(&head[..4]) as usize - 8];
    read_exact(wire, &mut body)?;
    Ok((word(&head[4..]), body))
}

fn read_exact(wire: &Wire, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match wire.read(buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => buffer = &mut buffer[count..],
        }
    }
    Ok(())
}

pub(crate) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
