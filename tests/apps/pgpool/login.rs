//! How a client's connection begins: what it wants (TLS, a cancel request, a session), who it is, and on which machine it lives.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use machinarium::net::TcpStream;
use machinarium::{shield, timeout};

use crate::admin;
use crate::cancel;
use crate::client::Client;
use crate::common::service::Place;
use crate::config::{Auth, Config, TlsMode};
use crate::connect::{PROTOCOL, SSL_REQUEST, read_key};
use crate::failure::{Failure, code};
use crate::homes::Home;
use crate::inbox::{Inbox, invalid};
use crate::message::{put, put_text, take_text};
use crate::params::Params;
use crate::pooler::{Pooler, no_database};
use crate::random;
use crate::scram;
use crate::session::{GOODBYE, Session};
use crate::wire::{DetachedWire, Wire, keep_alive};

const GSS_REQUEST: u32 = 80_877_104;

/// The longest first message, and the longest with a password: what PostgreSQL accepts.
const LONGEST: usize = 10_000;

/// The database that is the console.
pub(crate) const CONSOLE: &str = "pgpool";

/// What a client wants.
struct Request {
    user: String,
    database: String,
    params: Params,
}

/// A client on its way to its machine.
struct Newcomer {
    wire: DetachedWire,
    inbox: Inbox,
    peer: SocketAddr,
    request: Request,
    _place: Place,
    home: Option<Home>,
}

/// Serves a connection, up to where a session begins: that has a coroutine of its own.
pub(crate) fn serve(stream: TcpStream, peer: SocketAddr) {
    let pooler = Pooler::here();
    let mut wire = Some(Wire::Plain(stream));
    let mut log_in = || log_in(&pooler, &mut wire, peer);
    let result = match pooler.config().timeouts.login {
        Some(patience) => timeout(patience, log_in),
        None => log_in(),
    };
    let Err(failure) = result else { return };
    // Who says nothing before it goes only looks whether somebody is there.
    if !matches!(&failure, Failure::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof) {
        pooler.say(&format!("{peer}: login: {failure}"));
    }
    if let Some(wire) = wire {
        let mut out = Vec::new();
        failure.put(&mut out);
        let _ = shield(|| timeout(GOODBYE, || wire.write_all(&out)));
        wire.close();
    }
}

fn log_in(pooler: &Rc<Pooler>, wire: &mut Option<Wire>, peer: SocketAddr) -> Result<(), Failure> {
    let config = pooler.config();
    let Some(request) = request(pooler, &config, wire)? else { return Ok(()) };
    let place = pooler.common.places.place().ok_or_else(|| {
        Failure::told(
            code::TOO_MANY,
            format!("there are {} clients already (max_clients)", config.max_clients),
        )
    })?;
    if pooler.is_ending() {
        return Err(pooler.farewell());
    }
    let mut inbox = Inbox::default();
    authenticate(&config, wire.as_ref().expect("it is taken at the end"), &mut inbox, &request.user)?;
    let home = find_home(pooler, &config, &request)?;
    let machine = home.as_ref().map_or(0, |home| home.machine);
    let wire = wire.take().expect("it is taken here").detach()?;
    let newcomer = Newcomer { wire, inbox, peer, request, _place: place, home };
    let remote = &pooler.common.machines[machine];
    if config.machines == 1 {
        newcomer.settle();
    } else {
        remote.spawn(move || newcomer.settle()).map_err(|misuse| Failure::Io(misuse.into()))?;
    }
    Ok(())
}

/// `None`: the console, which is on the first machine.
fn find_home(pooler: &Pooler, config: &Config, request: &Request) -> Result<Option<Home>, Failure> {
    if request.database == CONSOLE {
        let may = config.admins.contains(&request.user);
        let text = format!("user {:?} is not one of the admins", request.user);
        return if may { Ok(None) } else { Err(Failure::told(code::NO_LOGIN, text)) };
    }
    let database = config.databases.get(&request.database).ok_or_else(|| no_database(&request.database))?;
    Ok(Some(pooler.common.homes.find(config, &request.database, &request.user, database.size)?))
}

impl Newcomer {
    /// Begins the session, on its machine.
    fn settle(self) {
        let pooler = Pooler::here();
        let Newcomer { wire, inbox, peer, request, _place: place, home } = self;
        let Ok(wire) = wire.attach() else { return };
        let (id, process) = pooler.next_client();
        let key = (process, u32::from_be_bytes(random::bytes()));
        let names = (request.database.as_str(), request.user.as_str());
        let client = Rc::new(Client::new(id, key, peer, names, wire.is_tls()));
        pooler.enter(&client);
        let (here, entered) = (pooler.clone(), client.clone());
        let session = move || {
            let _kept = (place, home);
            let _entry = Entry { pooler: pooler.clone(), client: client.clone() };
            begin(&pooler, &client, (wire, inbox), &request);
        };
        match machinarium::try_spawn("client", session) {
            Ok(session) => *entered.session.borrow_mut() = Some(session),
            Err(error) => {
                here.leave(&entered);
                here.say(&format!("{peer}: {error}"));
            }
        }
    }
}

fn begin(pooler: &Rc<Pooler>, client: &Rc<Client>, (wire, inbox): (Wire, Inbox), request: &Request) {
    if request.database == CONSOLE {
        return admin::serve(pooler, client, wire, inbox);
    }
    match pooler.pool(&request.database, &request.user) {
        Ok(pool) => Session::run(pooler.clone(), client.clone(), pool, (wire, inbox), &request.params),
        Err(failure) => {
            let mut out = Vec::new();
            failure.put(&mut out);
            let _ = timeout(GOODBYE, || wire.write_all(&out));
            wire.close();
        }
    }
}

/// A client's place in the list, left when its session ends.
struct Entry {
    pooler: Rc<Pooler>,
    client: Rc<Client>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.pooler.leave(&self.client);
    }
}

/// Reads what the client wants, after TLS has begun if it asks for that. `None`: that was all.
fn request(
    pooler: &Pooler,
    config: &Arc<Config>,
    wire: &mut Option<Wire>,
) -> Result<Option<Request>, Failure> {
    let stream = wire.as_ref().expect("a connection").tcp();
    stream.set_nodelay(true)?;
    keep_alive(stream, config.timeouts.keepalive)?;
    loop {
        let now = wire.as_ref().expect("a connection");
        let (kind, body) = read_first(now)?;
        match kind {
            SSL_REQUEST if body.is_empty() && !now.is_tls() => begin_tls(pooler, wire)?,
            GSS_REQUEST if body.is_empty() => now.write_all(b"N")?,
            cancel::REQUEST => {
                // It is one of a client that has logged in; it needs no TLS to be meant so.
                let key = read_key(&body).ok_or_else(|| invalid("a malformed CancelRequest".to_owned()))?;
                pooler.cancel(key);
                return Ok(None);
            }
            version if version >> 16 == PROTOCOL >> 16 => {
                if config.tls.mode == TlsMode::Require && !now.is_tls() {
                    return Err(Failure::told(code::NO_LOGIN, "the pooler requires TLS (sslmode=require)"));
                }
                return read_startup(version, &body, now).map(Some);
            }
            other => {
                let text = format!("protocol {}.{} is not supported", other >> 16, other & 0xffff);
                return Err(Failure::told(code::NO_FEATURE, text));
            }
        }
    }
}

/// A message without a kind: its first word, and what follows.
fn read_first(wire: &Wire) -> io::Result<(u32, Vec<u8>)> {
    let mut head = [0; 8];
    read_exact(wire, &mut head)?;
    let [length, kind] =
        [&head[..4], &head[4..]].map(|word| u32::from_be_bytes(word.try_into().expect("4 bytes")));
    if !(8..=LONGEST as u32).contains(&length) {
        return Err(invalid(format!("a first message of {length} bytes: this is not PostgreSQL's protocol")));
    }
    let mut body = vec![0; length as usize - 8];
    read_exact(wire, &mut body)?;
    Ok((kind, body))
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

fn begin_tls(pooler: &Pooler, wire: &mut Option<Wire>) -> Result<(), Failure> {
    let Some(Wire::Plain(stream)) = wire.take() else { return Err(invalid("TLS in TLS".to_owned()).into()) };
    let Some(tls) = pooler.tls() else {
        stream.write_all(b"N").map_err(io::Error::from)?;
        *wire = Some(Wire::Plain(stream));
        return Ok(());
    };
    // What was sent in clear behind the request could be of somebody in between, who wants it taken for encrypted.
    if stream.buffered() > 0 {
        return Err(invalid("the client sends before TLS has begun".to_owned()).into());
    }
    stream.write_all(b"S").map_err(io::Error::from)?;
    *wire = Some(Wire::Tls(Box::new(tls.accept(stream)?)));
    Ok(())
}

fn read_startup(version: u32, mut body: &[u8], wire: &Wire) -> Result<Request, Failure> {
    let malformed = || invalid("a malformed StartupMessage".to_owned());
    let (mut user, mut database, mut params, mut unknown) = (None, None, Params::default(), Vec::new());
    while body != [0] {
        let name = text_of(take_text(&mut body).ok_or_else(malformed)?);
        let value = text_of(take_text(&mut body).ok_or_else(malformed)?);
        match name.as_str() {
            "user" => user = Some(value),
            "database" => database = Some(value),
            "options" => read_options(&value, &mut params)?,
            "replication" if matches!(value.as_str(), "false" | "off" | "no" | "0") => {}
            "replication" => {
                return Err(Failure::told(code::NO_FEATURE, "replication does not go through a pooler"));
            }
            name if name.starts_with("_pq_.") => unknown.push(name.to_owned()),
            name => params.set(name, &value),
        }
    }
    if version != PROTOCOL || !unknown.is_empty() {
        let mut out = Vec::new();
        put(&mut out, b'v', |body| {
            body.extend(PROTOCOL.to_be_bytes());
            body.extend((unknown.len() as u32).to_be_bytes());
            unknown.iter().for_each(|name| put_text(body, name.as_bytes()));
        });
        wire.write_all(&out)?;
    }
    let user = user.filter(|user| !user.is_empty());
    let user = user.ok_or_else(|| Failure::told(code::NO_LOGIN, "the StartupMessage names no user"))?;
    let database = database.unwrap_or_else(|| user.clone());
    Ok(Request { user, database, params })
}

/// `-c NAME=VALUE` and `--NAME=VALUE`, as PGOPTIONS has them.
fn read_options(options: &str, params: &mut Params) -> Result<(), Failure> {
    let mut words = options.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let setting =
            match word.strip_prefix("--").or_else(|| word.strip_prefix("-c").filter(|rest| !rest.is_empty()))
            {
                Some(setting) => Some(setting),
                None if word == "-c" => words.next(),
                None => None,
            };
        let (name, value) = setting.and_then(|setting| setting.split_once('=')).ok_or_else(|| {
            Failure::told(
                code::NO_FEATURE,
                format!("the option {word:?}: only -c NAME=VALUE goes through a pooler"),
            )
        })?;
        params.set(&name.replace('-', "_"), value);
    }
    Ok(())
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn authenticate(config: &Config, wire: &Wire, inbox: &mut Inbox, user: &str) -> Result<(), Failure> {
    let verifier = match config.users.get(user).map(|user| &user.auth) {
        Some(Auth::Trust) => return Ok(()),
        Some(Auth::Scram(verifier)) => verifier.clone(),
        None => scram::Verifier::of_nobody(),
    };
    let binding = match wire {
        Wire::Tls(stream) => stream.server_end_point(),
        Wire::Plain(_) => None,
    };
    let mut out = Vec::new();
    put(&mut out, b'R', |body| {
        body.extend(10_u32.to_be_bytes());
        for name in binding.iter().map(|_| scram::PLUS).chain([scram::PLAIN]) {
            put_text(body, name.as_bytes());
        }
        body.push(0);
    });
    wire.write_all(&out)?;
    let first = read_password(wire, inbox)?;
    let mut rest = &first[..];
    let malformed = || invalid("a malformed SASLInitialResponse".to_owned());
    let mechanism = take_text(&mut rest).ok_or_else(malformed)?;
    let chosen = match (&binding, mechanism) {
        (_, name) if name == scram::PLAIN.as_bytes() => None,
        (Some(binding), name) if name == scram::PLUS.as_bytes() => Some(&binding[..]),
        _ => return Err(invalid("an authentication mechanism that was not offered".to_owned()).into()),
    };
    let first = rest.get(4..).map(text_of).ok_or_else(malformed)?;
    let server = scram::Server::begin(verifier, &first, chosen, binding.is_some());
    let server = server.map_err(|why| Failure::told(code::NO_LOGIN, why))?;
    put_sasl(&mut out, 11, &server.first());
    wire.write_all(&out)?;
    let last = text_of(&read_password(wire, inbox)?);
    let proof = server.finish(&last).ok_or_else(|| {
        Failure::told(code::WRONG_PASSWORD, format!("password authentication failed for user {user:?}"))
    })?;
    put_sasl(&mut out, 12, &proof);
    Ok(wire.write_all(&out)?)
}

fn put_sasl(out: &mut Vec<u8>, step: u32, data: &str) {
    out.clear();
    put(out, b'R', |body| {
        body.extend(step.to_be_bytes());
        body.extend(data.as_bytes());
    });
}

fn read_password(wire: &Wire, inbox: &mut Inbox) -> Result<Vec<u8>, Failure> {
    let header = inbox.message(wire, LONGEST)?;
    if header.kind != b'p' {
        return Err(invalid(format!("{:?} where the password is expected", char::from(header.kind))).into());
    }
    let body = inbox.body(header).to_vec();
    inbox.consume(header.total);
    Ok(body)
}
