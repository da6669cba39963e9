//! SCRAM-SHA-256 (RFC 5802, 7677), both sides: how a password is shown without being sent. With `-PLUS`, bound to the TLS connection.
//!
//! Passwords are taken as they are; of those that are not ASCII, PostgreSQL takes what SASLprep makes of them, which is the same for text in
//! its usual, composed form.

use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::random;

/// The mechanism, and the one that is bound to TLS.
pub(crate) const PLAIN: &str = "SCRAM-SHA-256";
pub(crate) const PLUS: &str = "SCRAM-SHA-256-PLUS";

/// PostgreSQL's default.
const ITERATIONS: u32 = 4096;
/// More would let a peer keep this machine busy for seconds.
const MOST_ITERATIONS: u32 = 1_000_000;
const BINDING: &str = "p=tls-server-end-point,,";

type Key = [u8; 32];

/// What a server keeps of a password: it can be compared with, and is no password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Verifier {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    /// Of a password, with a salt of its own.
    pub(crate) fn of_password(password: &str) -> Verifier {
        let (salt, iterations) =
            (random::bytes::<16>().to_vec(), NonZeroU32::new(ITERATIONS).expect("not zero"));
        let keys = Keys::new(password, &salt, iterations);
        Verifier { iterations, salt, stored_key: sha256(&keys.client), server_key: keys.server }
    }

    /// As PostgreSQL stores it: `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`.
    pub(crate) fn parse(text: &str) -> Option<Verifier> {
        let (parameters, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let ((iterations, salt), (stored, server)) = (parameters.split_once(':')?, keys.split_once(':')?);
        let iterations = parse_iterations(iterations)?;
        let key = |text: &str| BASE64.decode(text).ok()?.try_into().ok();
        let salt = BASE64.decode(salt).ok()?;
        Some(Verifier { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
    }

    /// Of nobody: an exchange with it fails at its end, so that who asks does not learn which users there are.
    pub(crate) fn of_nobody() -> Verifier {
        let iterations = NonZeroU32::new(ITERATIONS).expect("not zero");
        let (salt, stored_key, server_key) =
            (random::bytes::<16>().to_vec(), random::bytes(), random::bytes());
        Verifier { iterations, salt, stored_key, server_key }
    }
}

/// The server's side, after the client's first message.
pub(crate) struct Server {
    verifier: Verifier,
    /// What the client's last message has to say of the channel.
    channel: String,
    nonce: String,
    /// The first messages of both.
    said: String,
}

impl Server {
    /// Reads the client's first message. `binding`: what the mechanism that the client has chosen is bound to. `offered`: whether it could
    /// have chosen one that is bound.
    pub(crate) fn begin(
        verifier: Verifier,
        first: &str,
        binding: Option<&[u8]>,
        offered: bool,
    ) -> Result<Server, &'static str> {
        const MALFORMED: &str = "a malformed SCRAM message";
        let mut parts = first.splitn(3, ',');
        let (flag, authorization, bare) = (parts.next(), parts.next(), parts.next().ok_or(MALFORMED)?);
        if authorization != Some("") {
            return Err("SCRAM in another one's name is not for PostgreSQL");
        }
        let flag = flag.ok_or(MALFORMED)?;
        match (flag, binding) {
            ("n", None) => {}
            ("y", None) if !offered => {}
            ("y", None) => {
                return Err("somebody has hidden from the client that SCRAM-SHA-256-PLUS is offered");
            }
            ("p=tls-server-end-point", Some(_)) => {}
            _ => return Err("SCRAM with another channel binding than its mechanism"),
        }
        let theirs =
            bare.split(',').find_map(|part| part.strip_prefix("r=")).filter(|nonce| !nonce.is_empty());
        let nonce = format!("{}{}", theirs.ok_or(MALFORMED)?, nonce());
        let mut channel = format!("{flag},,").into_bytes();
        channel.extend(binding.unwrap_or_default());
        let said = format!("{bare},{}", first_of_server(&nonce, &verifier));
        Ok(Server { verifier, channel: BASE64.encode(channel), nonce, said })
    }

    /// The server's first message.
    pub(crate) fn first(&self) -> String {
        first_of_server(&self.nonce, &self.verifier)
    }

    /// Reads the client's last message: the server's last, if the client knows the password.
    pub(crate) fn finish(&self, last: &str) -> Option<String> {
        let (without_proof, proof) = last.rsplit_once(",p=")?;
        if without_proof != format!("c={},r={}", self.channel, self.nonce) {
            return None;
        }
        let proof: Key = BASE64.decode(proof).ok()?.try_into().ok()?;
        let said = format!("{},{without_proof}", self.said);
        let client_key = xor(proof, hmac(&self.verifier.stored_key, said.as_bytes()));
        verify_slices_are_equal(&sha256(&client_key), &self.verifier.stored_key).ok()?;
        Some(format!("v={}", BASE64.encode(hmac(&self.verifier.server_key, said.as_bytes()))))
    }
}

/// The client's side.
pub(crate) struct Client {
    gs2: &'static str,
    channel: Vec<u8>,
    nonce: String,
}

impl Client {
    /// `binding`: what the mechanism is bound to, if it is PLUS.
    pub(crate) fn new(binding: Option<Vec<u8>>) -> Client {
        let gs2 = if binding.is_some() { BINDING } else { "n,," };
        Client { gs2, channel: binding.unwrap_or_default(), nonce: nonce() }
    }

    /// The client's first message. The user is the one that the connection was opened for.
    pub(crate) fn first(&self) -> String {
        format!("{}n=,r={}", self.gs2, self.nonce)
    }

    /// Reads the server's first message: the client's last, and what the server's last has to be.
    pub(crate) fn finish(&self, password: &str, first: &str) -> Option<(String, String)> {
        let mut parts = first.split(',');
        let nonce = parts.next()?.strip_prefix("r=").filter(|nonce| nonce.starts_with(&self.nonce))?;
        let salt = BASE64.decode(parts.next()?.strip_prefix("s=")?).ok()?;
        let iterations = parse_iterations(parts.next()?.strip_prefix("i=")?)?;
        let keys = Keys::new(password, &salt, iterations);
        let channel = BASE64.encode([self.gs2.as_bytes(), &self.channel].concat());
        let without_proof = format!("c={channel},r={nonce}");
        let said = format!("n=,r={},{first},{without_proof}", self.nonce);
        let proof = xor(keys.client, hmac(&sha256(&keys.client), said.as_bytes()));
        let answer = format!("v={}", BASE64.encode(hmac(&keys.server, said.as_bytes())));
        Some((format!("{without_proof},p={}", BASE64.encode(proof)), answer))
    }
}

struct Keys {
    client: Key,
    server: Key,
}

impl Keys {
    fn new(password: &str, salt: &[u8], iterations: NonZeroU32) -> Keys {
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut salted);
        Keys { client: hmac(&salted, b"Client Key"), server: hmac(&salted, b"Server Key") }
    }
}

fn first_of_server(nonce: &str, verifier: &Verifier) -> String {
    format!("r={nonce},s={},i={}", BASE64.encode(&verifier.salt), verifier.iterations)
}

fn parse_iterations(text: &str) -> Option<NonZeroU32> {
    text.parse().ok().filter(|count: &NonZeroU32| count.get() <= MOST_ITERATIONS)
}

fn nonce() -> String {
    BASE64.encode(random::bytes::<18>())
}

fn hmac(key: &[u8], message: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().expect("HMAC of SHA-256 has 32 bytes")
}

fn sha256(bytes: &[u8]) -> Key {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn xor(mut a: Key, b: Key) -> Key {
    a.iter_mut().zip(b).for_each(|(a, b)| *a ^= b);
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(verifier: Verifier, password: &str, binding: Option<&[u8]>) -> bool {
        let client = Client::new(binding.map(<[u8]>::to_vec));
        let server = Server::begin(verifier, &client.first(), binding, true).unwrap();
        let (last, expected) = client.finish(password, &server.first()).unwrap();
        server.finish(&last).is_some_and(|answer| answer == expected)
    }

    #[test]
    fn the_right_password_and_no_other() {
        for binding in [None, Some(&b"certificate"[..])] {
            assert!(talk(Verifier::of_password("secret"), "secret", binding));
            assert!(!talk(Verifier::of_password("secret"), "Secret", binding));
            assert!(!talk(Verifier::of_nobody(), "secret", binding));
        }
    }

    /// The example of RFC 7677, with the verifier that PostgreSQL makes of it.
    #[test]
    fn the_example_of_the_rfc() {
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let verifier = Verifier::parse(text).unwrap();
        let keys = Keys::new("pencil", &verifier.salt, verifier.iterations);
        assert_eq!((sha256(&keys.client), keys.server), (verifier.stored_key, verifier.server_key));
        assert!(talk(verifier, "pencil", None));
    }

    #[test]
    fn a_binding_that_was_hidden_or_is_another() {
        let verifier = || Verifier::of_password("x");
        assert!(Server::begin(verifier(), "y,,n=,r=abc", None, true).is_err());
        assert!(Server::begin(verifier(), "y,,n=,r=abc", None, false).is_ok());
        assert!(Server::begin(verifier(), "n,,n=,r=abc", Some(b"c"), true).is_err());
        let client = Client::new(Some(b"one".to_vec()));
        let server = Server::begin(verifier(), &client.first(), Some(b"another"), true).unwrap();
        let (last, _) = client.finish("x", &server.first()).unwrap();
        assert_eq!(server.finish(&last), None);
    }

    #[test]
    fn garbage_is_refused() {
        for text in ["", "n", "n,,", "n,,n=", "n,a=b,n=,r=x", "n,,n=,r=", "p=x,,n=,r=a"] {
            assert!(Server::begin(Verifier::of_nobody(), text, None, false).is_err(), "{text}");
        }
        for text in ["", "r=x", "r=x,s=,i=", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:$:"] {
            assert!(Client::new(None).finish("x", text).is_none(), "{text}");
            assert!(Verifier::parse(text).is_none(), "{text}");
        }
    }
}
