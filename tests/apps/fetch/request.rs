//! One request, and what its answer comes to: the whole file, the rest of it, or that what is here is outdated.

use std::io::Read;
use std::time::Duration;

use machinarium::adapter::ureq::{Connector, Resolver};
use machinarium::tls::ConfigError;
use ureq::http::header::{
    ACCEPT_ENCODING, CONTENT_DISPOSITION, CONTENT_LENGTH, IF_RANGE, RANGE, RETRY_AFTER, TRANSFER_ENCODING,
};
use ureq::http::uri::Scheme;
use ureq::http::{Response, StatusCode, Uri};
use ureq::{Agent, Body};

use crate::config::{Bug, Config};
use crate::failure::Failure;
use crate::name;
use crate::version::{Part, Version};

/// What all requests are made with: connections are kept for the next one to the same server.
pub(crate) struct Client {
    agent: Agent,
    bug: Option<Bug>,
}

/// What a server has sent.
pub(crate) enum Answer {
    Whole(Whole),
    /// What follows the bytes that are here, up to `end`; and how many there are in all.
    Rest {
        end: u64,
        total: u64,
        body: Box<dyn Read>,
    },
    /// The bytes that are here cannot be gone on with, and the next request must ask for all.
    Outdated,
}

/// A whole file, from its first byte.
pub(crate) struct Whole {
    pub(crate) version: Version,
    /// How the server calls it.
    pub(crate) called: Option<String>,
    /// Whether its end can be told from a connection that was cut.
    pub(crate) has_end: bool,
    pub(crate) body: Box<dyn Read>,
}

impl Client {
    /// # Errors
    /// When there is nobody to trust, and an https to be asked.
    pub(crate) fn new(config: &Config) -> Result<Client, ConfigError> {
        let asks_https = config.targets.iter().any(|target| target.url.scheme() == Some(&Scheme::HTTPS));
        let connector = match config.trust.config() {
            Ok(tls) => Connector::new().tls(tls),
            Err(error) if asks_https => return Err(error),
            Err(_) => Connector::new(),
        };
        let settings = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .user_agent("fetch (machinarium)")
            .max_idle_connections(config.jobs)
            .max_idle_connections_per_host(config.jobs)
            .timeout_resolve(Some(config.connect))
            .timeout_connect(Some(config.connect))
            .timeout_recv_response(Some(config.idle))
            .timeout_per_read(Some(config.idle))
            .timeout_per_write(Some(config.idle));
        Ok(Client { agent: Agent::with_parts(settings.build(), connector, Resolver), bug: config.bug })
    }

    /// Asks for what follows the first `offset` bytes of this version; for all, if these cannot be asked about.
    pub(crate) fn get(&self, url: &Uri, offset: u64, version: &Version) -> Result<Answer, Failure> {
        let mut request = self.agent.get(url).header(ACCEPT_ENCODING, "identity");
        let validator = version.validator().filter(|_| offset > 0);
        if let Some(validator) = validator {
            request = request.header(RANGE, format!("bytes={offset}-"));
            if self.bug != Some(Bug::MixedVersions) {
                request = request.header(IF_RANGE, validator);
            }
        }
        let answer = request.call().map_err(Failure::of_request)?;
        match answer.status() {
            StatusCode::OK => Ok(Answer::Whole(Whole::of(answer))),
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if validator.is_some() => {
                Ok(self.rest(answer, offset, version).unwrap_or(Answer::Outdated))
            }
            status => Err(Failure::of_status(status, retry_after(&answer))),
        }
    }

    /// A part that goes on where it should, of the version of which it should be.
    fn rest(&self, answer: Response<Body>, offset: u64, version: &Version) -> Option<Answer> {
        let part = Part::of(&answer).filter(|_| answer.status() == StatusCode::PARTIAL_CONTENT)?;
        let total = part.total.or(version.total)?;
        let agrees = version.agrees(&answer) || self.bug == Some(Bug::MixedVersions);
        let goes_on = agrees && version.fits(part, offset);
        goes_on.then(|| Answer::Rest { end: part.last + 1, total, body: reader(answer) })
    }
}

impl Whole {
    fn of(answer: Response<Body>) -> Whole {
        let headers = answer.headers();
        let called = headers
            .get(CONTENT_DISPOSITION)
            .and_then(|value| name::of_disposition(&String::from_utf8_lossy(value.as_bytes())));
        let has_end = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
        Whole { version: Version::of(&answer), called, has_end, body: reader(answer) }
    }
}

fn reader(answer: Response<Body>) -> Box<dyn Read> {
    Box::new(answer.into_body().into_with_config().limit(u64::MAX).reader())
}

/// In how many seconds the server wants to be asked again. It may name a day instead, which is longer than anybody waits here.
fn retry_after(answer: &Response<Body>) -> Option<Duration> {
    answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}
