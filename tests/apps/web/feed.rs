//! The feed: every change, as JSON, to all who have opened a WebSocket. After the handshake of HTTP a WebSocket is a stream of this library's
//! again, on a coroutine of its own: tungstenite blocks on it, and `select!` waits for news and for the client at once.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::server::conn::auto::upgrade::downcast;
use machinarium::machine::Resident;
use machinarium::net::{Readable, TcpStream};
use machinarium::sync::Mutex;
use machinarium::sync::channel::{Receiver, Sender, bounded};
use machinarium::tls::TlsStream;
use machinarium::{block_on, select, timeout};
use serde::Serialize;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode};
use tungstenite::{Message, WebSocket};

use crate::api::{App, Refusal};
use crate::server::Client;
use crate::store::Note;

/// How far behind a client may be; then it is cut off, and may come again.
const BEHIND: usize = 1000;
/// How long a client may take for what it has begun to send, or to take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A client says little here.
const LONGEST_MESSAGE: usize = 4 << 10;

/// What has happened to a note.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Event {
    Written(Note),
    Removed { id: u64 },
}

/// Who is told, on all machines.
#[derive(Default)]
pub(crate) struct Feed {
    listeners: Mutex<Vec<Sender<Arc<str>>>>,
}

impl Feed {
    /// Tells all; those who are too far behind, or have gone, are told no more.
    pub(crate) fn tell(&self, event: &Event) -> io::Result<()> {
        let news: Arc<str> = serde_json::to_string(event)?.into();
        self.listeners.lock()?.retain(|listener| listener.try_send(news.clone()).is_ok());
        Ok(())
    }

    fn listen(&self) -> io::Result<Receiver<Arc<str>>> {
        let (sender, receiver) = bounded(BEHIND);
        self.listeners.lock()?.push(sender);
        Ok(receiver)
    }
}

/// Makes a connection a WebSocket.
pub(crate) async fn follow(State(app): State<Arc<App>>, mut request: Request) -> Result<Response, Refusal> {
    let refuse = |why: &str| Refusal(StatusCode::BAD_REQUEST, why.to_owned());
    let headers = request.headers();
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(refuse("this is for WebSockets, of version 13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| refuse("a WebSocket has a key"))?;
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| refuse("this connection cannot be a WebSocket: ask by HTTP/1.1"))?;
    let client = request.extensions_mut().remove::<Client>();
    let news = app.feed.listen()?;
    machinarium::spawn_named("feed", move || {
        // How it ends is the client's own affair.
        let _ = serve(upgrade, client, &news);
    });
    let upgraded = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).map_err(io::Error::other)?),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, upgraded).into_response())
}

/// What a WebSocket is on.
trait Socket: Read + Write {
    fn readable(&self) -> Readable<'_>;
}

impl Socket for TcpStream {
    fn readable(&self) -> Readable<'_> {
        TcpStream::readable(self)
    }
}

impl Socket for TlsStream {
    fn readable(&self) -> Readable<'_> {
        TlsStream::readable(self)
    }
}

/// The stream as it was before HTTP, whichever it is.
fn serve(upgrade: OnUpgrade, client: Option<Client>, news: &Receiver<Arc<str>>) -> io::Result<()> {
    let upgraded = block_on(upgrade)?.map_err(io::Error::other)?;
    match open::<TcpStream>(upgraded) {
        Ok((stream, read)) => talk(stream, read, client, news),
        Err(upgraded) => match open::<TlsStream>(upgraded) {
            Ok((stream, read)) => talk(stream, read, client, news),
            Err(_) => Err(io::ErrorKind::Unsupported.into()),
        },
    }
}

fn open<S: 'static>(upgraded: Upgraded) -> Result<(S, Bytes), Upgraded>
where
    Resident<S>: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let parts = downcast::<Resident<S>>(upgraded)?;
    match parts.io.into_inner() {
        Ok(stream) => Ok((stream, parts.read_buf)),
        Err(_) => unreachable!("a connection is served on its machine"),
    }
}

/// Until the client or the server ends it. What is said is passed on as it comes; what the client says is answered, if it asks for that.
fn talk<S: Socket>(
    stream: S,
    read: Bytes,
    client: Option<Client>,
    news: &Receiver<Arc<str>>,
) -> io::Result<()> {
    let config = WebSocketConfig::default().max_message_size(Some(LONGEST_MESSAGE));
    let mut socket = WebSocket::from_partially_read(stream, read.to_vec(), Role::Server, Some(config));
    let shutdown = client.as_ref().map(|client| client.shutdown.clone()).unwrap_or_default();
    // What was read with the request is in no stream any more.
    let mut unread = !read.is_empty();
    loop {
        if std::mem::take(&mut unread) {
            heard(&mut socket)?;
        }
        let told = select! {
            recv(news) -> news => Some(news.ok()),
            readable(socket.get_ref()) => None,
            wait(shutdown) => Some(None),
        }?;
        match told {
            Some(Some(news)) => said(&mut socket, Message::text(&*news))?,
            None => heard(&mut socket)?,
            Some(None) => {
                let away = CloseFrame { code: CloseCode::Away, reason: "the feed ends".into() };
                return said(&mut socket, Message::Close(Some(away)));
            }
        }
    }
}

fn heard<S: Socket>(socket: &mut WebSocket<S>) -> io::Result<()> {
    // What tungstenite answers by itself, a ping or a close, it leaves to be sent.
    timeout(PATIENCE, || socket.read().and_then(|_| socket.flush())).map_err(io::Error::other)
}

fn said<S: Socket>(socket: &mut WebSocket<S>, message: Message) -> io::Result<()> {
    timeout(PATIENCE, || socket.send(message)).map_err(io::Error::other)
}
