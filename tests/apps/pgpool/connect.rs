//! How a connection to a server begins: TCP, TLS if it is to be, and the login in a user's name.

use std::io;
use std::time::Duration;

use machinarium::net::TcpStream;
use machinarium::tls::{ClientConfig, Verify};

use crate::config::{Database, Roots, TlsMode};
use crate::inbox::{Inbox, invalid};
use crate::message::{put, put_text, read_error, take_text};
use crate::params::Params;
use crate::scram;
use crate::server::{LONGEST, Server};
use crate::wire::{Wire, keep_alive};

pub(crate) const PROTOCOL: u32 = 3 << 16;
pub(crate) const SSL_REQUEST: u32 = 80_877_103;

/// Whom to connect to, and as whom.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) database: Database,
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    pub(crate) tls: Option<ClientConfig>,
    keepalive: Option<Duration>,
}

impl Target {
    /// To be called on the machine that will connect.
    pub(crate) fn new(
        database: &Database,
        user: &str,
        password: Option<&str>,
        keepalive: Option<Duration>,
    ) -> io::Result<Target> {
        let user = database.user.as_deref().unwrap_or(user).to_owned();
        let password = database.password.as_deref().or(password).map(str::to_owned);
        Ok(Target { database: database.clone(), user, password, tls: client_config(database)?, keepalive })
    }

    /// Whether a connection to the other one would be the same.
    pub(crate) fn is_same(&self, other: &Target) -> bool {
        let Database { host, port, name, tls, .. } = &self.database;
        let theirs = &other.database;
        (host, port, name, tls) == (&theirs.host, &theirs.port, &theirs.name, &theirs.tls)
            && (&self.user, &self.password) == (&other.user, &other.password)
    }

    /// Connects, with TLS or without: what a login and a cancel request begin with.
    pub(crate) fn open(&self) -> io::Result<Wire> {
        let Database { host, port, tls, .. } = &self.database;
        let stream = TcpStream::connect((host.as_str(), *port))?;
        stream.set_nodelay(true)?;
        keep_alive(&stream, self.keepalive)?;
        let Some(config) = &self.tls else { return Ok(Wire::Plain(stream)) };
        stream.write_all(&[8_u32.to_be_bytes(), SSL_REQUEST.to_be_bytes()].concat())?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        match (answer[0], tls.mode) {
            // Bytes behind the answer are of somebody in between who wants them taken for encrypted ones.
            (b'S', _) if stream.buffered() > 0 => {
                Err(invalid("the server sends before TLS has begun".to_owned()))
            }
            (b'S', _) => {
                let name = tls.name.as_deref().unwrap_or(host);
                let stream = config.connect(stream, name).map_err(|error| told("TLS", error))?;
                Ok(Wire::Tls(Box::new(stream)))
            }
            (b'N', TlsMode::Allow) => Ok(Wire::Plain(stream)),
            (b'N', _) => Err(invalid("the server has no TLS, which the configuration requires".to_owned())),
            (other, _) => Err(invalid(format!("the server answers {:?} to SSLRequest", char::from(other)))),
        }
    }

    /// Connects and logs in.
    pub(crate) fn connect(&self, id: u64) -> io::Result<Server> {
        let wire = self.open()?;
        wire.write_all(&self.startup())?;
        let (mut inbox, mut params, mut key) = (Inbox::default(), Params::default(), (0, 0));
        loop {
            let header = inbox.message(&wire, LONGEST)?;
            let mut body = inbox.body(header);
            match header.kind {
                b'R' => {
                    let request = body.to_vec();
                    inbox.consume(header.total);
                    self.authenticate(&request, &wire, &mut inbox)?;
                    continue;
                }
                b'S' => {
                    let pair = take_text(&mut body).and_then(|name| Some((name, take_text(&mut body)?)));
                    let (name, value) =
                        pair.ok_or_else(|| invalid("a malformed ParameterStatus".to_owned()))?;
                    params.set(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value));
                }
                b'K' => {
                    key = read_key(body).ok_or_else(|| invalid("a malformed BackendKeyData".to_owned()))?
                }
                b'E' => {
                    let (code, text) = read_error(body);
                    return Err(io::Error::other(Refused { code, text }));
                }
                b'N' | b'v' => {}
                b'Z' => {
                    inbox.consume(header.total);
                    return Ok(Server::new(id, wire, inbox, key, params));
                }
                other => {
                    return Err(invalid(format!("the server sends {:?} at the login", char::from(other))));
                }
            }
            inbox.consume(header.total);
        }
    }

    fn startup(&self) -> Vec<u8> {
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        for (name, value) in [("user", &self.user), ("database", &self.database.name)] {
            put_text(&mut body, name.as_bytes());
            put_text(&mut body, value.as_bytes());
        }
        body.push(0);
        let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
        message.extend(body);
        message
    }

    fn authenticate(&self, request: &[u8], wire: &Wire, inbox: &mut Inbox) -> io::Result<()> {
        let (method, rest) = request.split_first_chunk::<4>().ok_or_else(malformed)?;
        match u32::from_be_bytes(*method) {
            0 => Ok(()),
            10 => self.show_password(rest, wire, inbox),
            3 => Err(invalid(
                "the server wants the password in clear text: let it use scram-sha-256".to_owned(),
            )),
            5 => Err(invalid("the server wants the password as MD5: let it use scram-sha-256".to_owned())),
            other => Err(invalid(format!(
                "the server wants authentication of kind {other}, which is not supported"
            ))),
        }
    }

    fn show_password(&self, mut mechanisms: &[u8], wire: &Wire, inbox: &mut Inbox) -> io::Result<()> {
        let offered = std::iter::from_fn(|| take_text(&mut mechanisms)).collect::<Vec<_>>();
        let offers = |name: &str| offered.contains(&name.as_bytes());
        let password = self.password.as_deref().ok_or_else(|| {
            let user = &self.user;
            invalid(format!("the server wants a password for {user:?}: give it one in the configuration"))
        })?;
        let binding = match wire {
            Wire::Tls(stream) if offers(scram::PLUS) => stream.server_end_point(),
            _ => None,
        };
        if binding.is_none() && !offers(scram::PLAIN) {
            return Err(invalid("the server offers no way to show a password that is known here".to_owned()));
        }
        let mechanism = if binding.is_some() { scram::PLUS } else { scram::PLAIN };
        let client = scram::Client::new(binding);
        let mut message = Vec::new();
        put(&mut message, b'p', |body| {
            put_text(body, mechanism.as_bytes());
            body.extend((client.first().len() as u32).to_be_bytes());
            body.extend(client.first().as_bytes());
        });
        wire.write_all(&message)?;
        let first = sasl(11, wire, inbox)?;
        let (last, expected) = client.finish(password, &first).ok_or_else(malformed)?;
        message.clear();
        put(&mut message, b'p', |body| body.extend(last.as_bytes()));
        wire.write_all(&message)?;
        match sasl(12, wire, inbox)? == expected {
            true => Ok(()),
            false => Err(invalid("the server does not know the password that it asked for".to_owned())),
        }
    }
}

/// The server's side of a login, when it says no.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: String,
    pub(crate) text: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server says: {}", self.text)
    }
}

impl std::error::Error for Refused {}

/// The next message of the server's side of SASL, of this kind.
fn sasl(kind: u32, wire: &Wire, inbox: &mut Inbox) -> io::Result<String> {
    let header = inbox.message(wire, LONGEST)?;
    let body = inbox.body(header).to_vec();
    inbox.consume(header.total);
    match (header.kind, body.split_first_chunk::<4>()) {
        (b'R', Some((found, data))) if *found == kind.to_be_bytes() => {
            String::from_utf8(data.to_vec()).map_err(|_| malformed())
        }
        (b'E', _) => {
            let (code, text) = read_error(&body);
            Err(io::Error::other(Refused { code, text }))
        }
        _ => Err(malformed()),
    }
}

/// The process and the secret of BackendKeyData or CancelRequest.
pub(crate) fn read_key(body: &[u8]) -> Option<(u32, u32)> {
    let (process, secret) = body.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*process), u32::from_be_bytes(secret.try_into().ok()?)))
}

fn client_config(database: &Database) -> io::Result<Option<ClientConfig>> {
    let tls = &database.tls;
    let builder = ClientConfig::builder();
    let builder = match tls.mode {
        TlsMode::Disable => return Ok(None),
        TlsMode::Allow | TlsMode::Require => builder.verify(Verify::Nothing),
        TlsMode::VerifyCa => builder.verify(Verify::Chain),
        TlsMode::VerifyFull => builder,
    };
    let builder = match (&tls.roots, tls.mode) {
        (_, TlsMode::Allow | TlsMode::Require) => builder,
        (Roots::System, _) => builder.system_roots(),
        (Roots::File(path), _) => builder.ca_file(path),
        (Roots::Pem(text), _) => builder.ca_pem(text.as_str()),
    };
    Ok(Some(builder.build()?))
}

fn told(what: &str, error: io::Error) -> io::Error {
    match machinarium::cancelled(&error) {
        Some(_) => error,
        None => io::Error::new(error.kind(), format!("{what}: {error}")),
    }
}

fn malformed() -> io::Error {
    invalid("a malformed message of the server's at the login".to_owned())
}
