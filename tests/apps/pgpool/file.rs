//! The configuration file: TOML, with errors that name the file, the line and what to do.
//!
//! `pgpool.toml` beside this has every key, with its default.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::common::place::Certificate;
use crate::config::{Auth, ClientTls, Config, Database, PoolMode, Roots, ServerTls, Timeouts, TlsMode, User};
use crate::login::CONSOLE;
use crate::scram::Verifier;

/// What is wrong with a file.
#[derive(Debug)]
pub(crate) struct Wrong {
    place: String,
    what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Reads a configuration.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn read(path: &Path) -> Result<Config, Wrong> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&name, &text),
        Err(error) => Err(Wrong { place: name, what: format!("cannot be read: {error}") }),
    }
}

/// The configuration in a text. `name`: of its file, for errors.
pub(crate) fn parse(name: &str, text: &str) -> Result<Config, Wrong> {
    let place = |start: usize| format!("{name}:{}", 1 + text[..start].matches('\n').count());
    let file: File = toml::from_str(text).map_err(|error| Wrong {
        place: error.span().map_or_else(|| name.to_owned(), |span| place(span.start)),
        what: error.message().replace('\n', " "),
    })?;
    file.config().map_err(|(start, what)| Wrong { place: place(start), what })
}

/// What is wrong at which byte.
type At<T> = Result<T, (usize, String)>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "default_listen")]
    listen: SocketAddr,
    metrics: Option<SocketAddr>,
    machines: Option<Spanned<usize>>,
    max_clients: Option<Spanned<usize>>,
    #[serde(default)]
    admins: Vec<Spanned<String>>,
    tls: Option<Spanned<FileTls>>,
    #[serde(default)]
    timeouts: FileTimeouts,
    #[serde(default)]
    databases: BTreeMap<Spanned<String>, FileDatabase>,
    #[serde(default)]
    users: BTreeMap<Spanned<String>, FileUser>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTls {
    mode: TlsMode,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// Each is a text like "500ms", "15s" or "2m", or "off".
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileTimeouts {
    login: Option<Limit>,
    connect: Option<Limit>,
    query_wait: Option<Limit>,
    query: Option<Limit>,
    client_idle: Option<Limit>,
    idle_in_transaction: Option<Limit>,
    server_idle: Option<Limit>,
    server_lifetime: Option<Limit>,
    keepalive: Option<Limit>,
    cancel: Option<Spanned<Limit>>,
    drain: Option<Limit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileDatabase {
    host: Option<String>,
    port: Option<u16>,
    name: Option<String>,
    user: Option<String>,
    password: Option<String>,
    pool_mode: Option<PoolMode>,
    pool_size: Option<Spanned<usize>>,
    min_pool_size: Option<Spanned<usize>>,
    max_waiting: Option<usize>,
    reset_query: Option<String>,
    #[serde(default)]
    reset_always: bool,
    tls: Option<TlsMode>,
    tls_ca: Option<PathBuf>,
    tls_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileUser {
    auth: Option<FileAuth>,
    password: Option<Spanned<String>>,
    server_password: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum FileAuth {
    Trust,
    #[serde(rename = "scram-sha-256")]
    Scram,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 6432))
}

impl File {
    fn config(self) -> At<Config> {
        let machines = in_range(self.machines.as_ref(), 1, "machines", 1, 256)?;
        let max_clients = in_range(self.max_clients.as_ref(), 1000, "max_clients", 1, 1 << 20)?;
        let mut databases = BTreeMap::new();
        for (name, database) in self.databases {
            if name.get_ref() == CONSOLE {
                return Err((
                    name.span().start,
                    format!("the database {CONSOLE:?} is the console: name this one otherwise"),
                ));
            }
            let found = database.database(name.get_ref())?;
            databases.insert(name.into_inner(), found);
        }
        let mut users = BTreeMap::new();
        for (name, user) in self.users {
            let found = user.user(&name)?;
            users.insert(name.into_inner(), found);
        }
        if let Some(unknown) = self.admins.iter().find(|admin| !users.contains_key(admin.get_ref())) {
            let what = format!("the admin {:?} is none of the users: add [users.{0:?}]", unknown.get_ref());
            return Err((unknown.span().start, what));
        }
        Ok(Config {
            listen: self.listen,
            metrics: self.metrics,
            machines,
            max_clients,
            admins: self.admins.into_iter().map(Spanned::into_inner).collect(),
            tls: client_tls(self.tls)?,
            timeouts: self.timeouts.timeouts()?,
            databases,
            users,
            say: |news| eprintln!("pgpool: {news}"),
            bug: None,
        })
    }
}

fn client_tls(tls: Option<Spanned<FileTls>>) -> At<ClientTls> {
    let Some(tls) = tls else { return Ok(ClientTls { mode: TlsMode::Disable, certificate: None }) };
    let start = tls.span().start;
    let FileTls { mode, certificate, key } = tls.into_inner();
    let wrong = |what: &str| Err((start, what.to_owned()));
    match (mode, certificate, key) {
        (TlsMode::VerifyCa | TlsMode::VerifyFull, ..) => wrong(
            "tls: clients are not asked for certificates: mode is \"disable\", \"allow\" or \"require\"",
        ),
        (TlsMode::Disable, ..) => Ok(ClientTls { mode, certificate: None }),
        (_, Some(certificate), Some(key)) => {
            Ok(ClientTls { mode, certificate: Some(Certificate::Files(certificate, key)) })
        }
        _ => {
            wrong("tls: name the PEM files of the pooler's certificate and key: certificate = ..., key = ...")
        }
    }
}

impl FileDatabase {
    fn database(self, key: &str) -> At<Database> {
        let size = in_range(self.pool_size.as_ref(), 20, "pool_size", 1, 1 << 16)?;
        let min_size = in_range(self.min_pool_size.as_ref(), 0, "min_pool_size", 0, size)?;
        Ok(Database {
            host: self.host.unwrap_or_else(|| "127.0.0.1".to_owned()),
            port: self.port.unwrap_or(5432),
            name: self.name.unwrap_or_else(|| key.to_owned()),
            user: self.user,
            password: self.password,
            mode: self.pool_mode.unwrap_or(PoolMode::Transaction),
            size,
            min_size,
            max_waiting: self.max_waiting.unwrap_or(usize::MAX),
            reset_query: self.reset_query.unwrap_or_else(|| "DISCARD ALL".to_owned()),
            reset_always: self.reset_always,
            tls: ServerTls {
                mode: self.tls.unwrap_or(TlsMode::Disable),
                roots: self.tls_ca.map_or(Roots::System, Roots::File),
                name: self.tls_name,
            },
        })
    }
}

impl FileUser {
    fn user(self, name: &Spanned<String>) -> At<User> {
        let verifier = |password: &Spanned<String>| {
            match password.get_ref().starts_with("SCRAM-SHA-256$") {
            false => Ok(Verifier::of_password(password.get_ref())),
            true => Verifier::parse(password.get_ref()).ok_or_else(|| {
                let what = "not a SCRAM verifier: copy rolpassword of pg_authid, SCRAM-SHA-256$ITERATIONS:SALT$KEY:KEY";
                (password.span().start, what.to_owned())
            }),
        }
        };
        let auth = match (self.auth, &self.password) {
            (Some(FileAuth::Trust), _) => Auth::Trust,
            (_, Some(password)) => Auth::Scram(verifier(password)?),
            (_, None) => {
                let what = format!("user {:?} has no password: add one, or auth = \"trust\"", name.get_ref());
                return Err((name.span().start, what));
            }
        };
        // A verifier logs in nowhere.
        let plain = self.password.map(Spanned::into_inner).filter(|text| !text.starts_with("SCRAM-SHA-256$"));
        Ok(User { auth, password: self.server_password.or(plain) })
    }
}

impl FileTimeouts {
    fn timeouts(self) -> At<Timeouts> {
        let defaults = Timeouts::default();
        let cancel = match self.cancel.as_ref().map(|limit| (limit.span().start, limit.get_ref().0)) {
            Some((start, None)) => {
                let what = "cancel = \"off\": a request that is lost would keep a server connection for ever";
                return Err((start, what.to_owned()));
            }
            given => given.and_then(|(_, limit)| limit).unwrap_or(defaults.cancel),
        };
        let limit = |given: Option<Limit>, default| given.map_or(default, |Limit(limit)| limit);
        Ok(Timeouts {
            login: limit(self.login, defaults.login),
            connect: limit(self.connect, defaults.connect),
            query_wait: limit(self.query_wait, defaults.query_wait),
            query: limit(self.query, defaults.query),
            client_idle: limit(self.client_idle, defaults.client_idle),
            idle_in_transaction: limit(self.idle_in_transaction, defaults.idle_in_transaction),
            server_idle: limit(self.server_idle, defaults.server_idle),
            server_lifetime: limit(self.server_lifetime, defaults.server_lifetime),
            keepalive: limit(self.keepalive, defaults.keepalive),
            cancel,
            drain: limit(self.drain, Some(defaults.drain)).unwrap_or(Duration::MAX),
        })
    }
}

/// A duration, or that there is no limit.
struct Limit(Option<Duration>);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
        let text = String::deserialize(deserializer)?;
        duration(&text).map(Limit).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "{text:?} is no time limit: write \"500ms\", \"15s\", \"2m\", \"1h\" or \"off\""
            ))
        })
    }
}

fn duration(text: &str) -> Option<Option<Duration>> {
    if text == "off" {
        return Some(None);
    }
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let count: u64 = text[..digits].parse().ok().filter(|count| *count > 0)?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Some(Duration::from_millis(count.checked_mul(unit)?)))
}

fn in_range(
    given: Option<&Spanned<usize>>,
    default: usize,
    name: &str,
    least: usize,
    most: usize,
) -> At<usize> {
    let Some(given) = given else { return Ok(default) };
    let value = *given.get_ref();
    let wrong = || (given.span().start, format!("{name} = {value}: it is from {least} to {most}"));
    (least..=most).contains(&value).then_some(value).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn wrong(text: &str, expected: &str) {
        assert_eq!(parse("x.toml", text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn the_example_has_the_defaults() {
        let example = parse("pgpool.toml", include_str!("pgpool.toml")).unwrap();
        let least =
            parse("x.toml", "admins = ['ada']\n[databases.shop]\n[users.ada]\npassword = 'x'").unwrap();
        assert_eq!(example.databases, least.databases);
        assert_eq!(format!("{:?}", example.timeouts), format!("{:?}", least.timeouts));
        assert_eq!(
            (example.listen, example.machines, example.max_clients),
            (least.listen, least.machines, least.max_clients)
        );
    }

    #[test]
    fn errors_name_the_line_and_what_to_do() {
        wrong("machines = 0", "x.toml:1: machines = 0: it is from 1 to 256");
        wrong(
            "\nadmins = [\"eve\"]",
            "x.toml:2: the admin \"eve\" is none of the users: add [users.\"eve\"]",
        );
        wrong("[users.ada]", "x.toml:1: user \"ada\" has no password: add one, or auth = \"trust\"");
        wrong(
            "[tls]\nmode = \"require\"",
            "x.toml:1: tls: name the PEM files of the pooler's certificate and key: certificate = ..., key = ...",
        );
        wrong(
            "[timeouts]\n\nlogin = \"5\"",
            "x.toml:3: \"5\" is no time limit: write \"500ms\", \"15s\", \"2m\", \"1h\" or \"off\"",
        );
        wrong(
            "[timeouts]\ncancel = \"off\"",
            "x.toml:2: cancel = \"off\": a request that is lost would keep a server connection for ever",
        );
        let unknown = parse("x.toml", "[databases.a]\nhots = \"x\"").unwrap_err().to_string();
        assert!(unknown.starts_with("x.toml:2: unknown field `hots`, expected one of `host`, "), "{unknown}");
        assert!(parse("x.toml", "a = [\n").unwrap_err().to_string().starts_with("x.toml:"));
    }
}
