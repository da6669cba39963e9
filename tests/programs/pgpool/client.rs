//! A client that speaks PostgreSQL's protocol over a plain socket: for what psql and the drivers do not do. It shows no password.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A session.
pub(crate) struct Client {
    stream: TcpStream,
    address: String,
    /// What a cancel request of it shows.
    key: [u8; 8],
}

/// A message: its kind and its body.
pub(crate) type Message = (u8, Vec<u8>);

impl Client {
    /// Logs in. The error: what the pooler says.
    pub(crate) fn log_in(
        address: &str,
        user: &str,
        database: &str,
        options: &[(&str, &str)],
    ) -> Result<Client, String> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Client { stream, address: address.to_owned(), key: [0; 8] };
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for (name, value) in [("user", user), ("database", database)].iter().chain(options) {
            body.extend(texts(&[name, value]));
        }
        body.push(0);
        client.send_raw(&[&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat());
        loop {
            match client.read() {
                Some((b'K', body)) => client.key.copy_from_slice(&body),
                Some((b'E', body)) => return Err(error(&body)),
                Some((b'Z', _)) => return Ok(client),
                Some(_) => {}
                None => return Err("the end".to_owned()),
            }
        }
    }

    /// As `trusted`, in `shop`.
    pub(crate) fn connect(address: &str) -> Client {
        Client::log_in(address, "trusted", "shop", &[]).unwrap()
    }

    /// Runs a query: its rows and errors, a line each, columns with `|` between them.
    pub(crate) fn ask(&mut self, sql: &str) -> String {
        self.send_query(sql);
        self.answer()
    }

    pub(crate) fn send_query(&mut self, sql: &str) {
        self.send(b'Q', &texts(&[sql]));
    }

    /// The rows and errors up to the next ReadyForQuery, or the end.
    pub(crate) fn answer(&mut self) -> String {
        let mut said = Vec::new();
        loop {
            match self.read() {
                Some((b'D', body)) => said.push(row(&body)),
                Some((b'E', body)) => said.push(error(&body)),
                Some((b'Z', _)) => return said.join("\n"),
                Some(_) => {}
                None => {
                    said.push("the end".to_owned());
                    return said.join("\n");
                }
            }
        }
    }

    /// The kinds of the messages up to the next ReadyForQuery.
    pub(crate) fn kinds(&mut self) -> String {
        let mut kinds = String::new();
        while !kinds.ends_with('Z') {
            kinds.push(self.read().expect("a message").0.into());
        }
        kinds
    }

    pub(crate) fn send(&mut self, kind: u8, body: &[u8]) {
        self.send_raw(&message(kind, body));
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        // Whether the other side has gone is seen by what it says.
        let _ = self.stream.write_all(bytes);
    }

    /// The next message. `None`: the end.
    pub(crate) fn read(&mut self) -> Option<Message> {
        let mut head = [0; 5];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing comes"),
            Err(_) => return None,
        }
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).ok()?;
        Some((head[0], body))
    }

    /// Has this one's query cancelled, from a connection of its own, as PQcancel does: waits until that is closed.
    pub(crate) fn cancel(&self) {
        cancel(&self.address, self.key);
    }

    pub(crate) fn key(&self) -> [u8; 8] {
        self.key
    }
}

/// Sends a cancel request with this key.
pub(crate) fn cancel(address: &str, key: [u8; 8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&[&16_u32.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &key].concat()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = stream.read(&mut [0]);
}

/// A message as it is sent.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// Texts, each with its zero.
pub(crate) fn texts(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| [text.as_bytes(), &[0]].concat()).collect()
}

/// Parse of a statement without types of parameters.
pub(crate) fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[texts(&[name, sql]), vec![0, 0]].concat())
}

/// Bind of the unnamed portal, with texts, and Execute.
pub(crate) fn execute(name: &str, values: &[&str]) -> Vec<u8> {
    let mut bind = texts(&["", name]);
    bind.extend([0, 0]);
    bind.extend((values.len() as u16).to_be_bytes());
    for value in values {
        bind.extend((value.len() as u32).to_be_bytes());
        bind.extend(value.as_bytes());
    }
    bind.extend([0, 0]);
    [message(b'B', &bind), message(b'E', &[0; 5])].concat()
}

/// Sync.
pub(crate) fn sync() -> Vec<u8> {
    message(b'S', &[])
}

fn row(body: &[u8]) -> String {
    let (mut rest, mut values) = (&body[2..], Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = i32::from_be_bytes(*length).max(0) as usize;
        values.push(String::from_utf8_lossy(&after[..length]).into_owned());
        rest = &after[length..];
    }
    values.join("|")
}

/// Severity, code and text.
fn error(body: &[u8]) -> String {
    let field = |kind: char| {
        let fields = body.split(|byte| *byte == 0).map(|field| String::from_utf8_lossy(field).into_owned());
        fields.into_iter().find_map(|field| field.strip_prefix(kind).map(str::to_owned)).unwrap_or_default()
    };
    format!("{} {}: {}", field('S'), field('C'), field('M'))
}
