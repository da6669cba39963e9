//! hyper's servers and clients, of HTTP/1 and HTTP/2, over every kind of stream.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, client, server};

use super::{Error, UnixStream, block_on, both, bytes, spawn, tcp, tls};
use machinarium::adapter::hyper::{Executor, Timer};
use machinarium::machine::Resident;
use machinarium::now;
use machinarium::sync::Event;
use machinarium_sim::Durations;

/// Answers with what was asked.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(request.into_body().collect().await.unwrap().to_bytes())))
}

/// The same; a request for /slow parks its coroutine until the gate is open.
async fn echo_behind(
    gate: Arc<Event>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/slow" {
        gate.wait().expect("it opens");
    }
    echo(request).await
}

fn request(path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    let builder = Request::post(format!("http://localhost{path}")).header("host", "localhost");
    builder.body(Full::from(body)).unwrap()
}

async fn text(answer: Response<Incoming>) -> Result<Vec<u8>, Error> {
    assert_eq!(answer.status(), StatusCode::OK);
    Ok(answer.into_body().collect().await?.to_bytes().to_vec())
}

fn http1<S>(ours: S, theirs: S) -> Result<(), Error>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let serving = spawn(move || {
        let mut server = server::conn::http1::Builder::new();
        block_on(server.timer(Timer::new()).serve_connection(theirs, service_fn(echo)))
    });
    block_on(async {
        let (mut requests, connection) = client::conn::http1::handshake(ours).await?;
        let connection = spawn(move || block_on(connection));
        for size in [0, 1, 100_000] {
            let answer = requests.send_request(request("/", bytes(size))).await?;
            assert!(text(answer).await? == bytes(size));
        }
        drop(requests);
        connection.await???;
        Ok::<(), Error>(())
    })??;
    Ok(serving.join()???)
}

#[test]
fn http1_over_every_stream() {
    both(|| {
        let (ours, theirs) = tcp()?;
        http1(ours, theirs)?;
        let (ours, theirs) = UnixStream::pair()?;
        http1(ours, theirs)?;
        let (ours, theirs) = tls(&["http/1.1"])?;
        assert_eq!(ours.alpn().as_deref(), Some(&b"http/1.1"[..]));
        http1(ours, theirs)
    });
}

fn http2<S>(ours: S, theirs: S) -> Result<(), Error>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let gate = Arc::new(Event::new());
    let behind = gate.clone();
    let serving = spawn(move || {
        let echo = service_fn(move |request| echo_behind(behind.clone(), request));
        let mut server = server::conn::http2::Builder::new(Executor);
        block_on(server.timer(Timer::new()).serve_connection(theirs, echo))
    });
    block_on(async {
        let (requests, connection) = client::conn::http2::handshake(Executor, ours).await?;
        let connection = spawn(move || block_on(connection));
        let ask = |path, size| {
            let mut requests = requests.clone();
            spawn(move || {
                let answer = async { text(requests.send_request(request(path, bytes(size))).await?).await };
                assert!(block_on(answer).unwrap().unwrap() == bytes(size));
            })
        };
        let slow = ask("/slow", 7);
        for asking in (0..10).map(|number| ask("/", number * 3000)).collect::<Vec<_>>() {
            asking.await?;
        }
        assert!(!slow.is_finished());
        gate.set();
        slow.await?;
        drop(requests);
        connection.await???;
        Ok::<(), Error>(())
    })??;
    Ok(serving.join()???)
}

#[test]
fn http2_handles_requests_at_once() {
    both(|| {
        let (ours, theirs) = tcp()?;
        http2(ours, theirs)?;
        let (ours, theirs) = tls(&["h2"])?;
        http2(ours, theirs)
    });
}

/// A client that says nothing is shown out when the machine's time says so.
#[test]
fn a_timer_of_hyper_is_the_machines() {
    both(|| {
        let (ours, theirs) = tcp()?;
        let begun = now();
        let mut server = server::conn::http1::Builder::new();
        server.timer(Timer::new()).header_read_timeout(20.millis());
        ours.write_all(b"GET / HT")?;
        let error = block_on(server.serve_connection(theirs, service_fn(echo)))?.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert!(now() - begun >= 20.millis());
        Ok(())
    });
}

/// After an upgrade the stream is plain code's again, with what hyper has read of it.
#[test]
fn an_upgraded_stream_is_had_back() {
    both(|| {
        let (ours, theirs) = tcp()?;
        let serving = spawn(move || {
            let shout = service_fn(|mut request: Request<Incoming>| async move {
                spawn(move || {
                    let upgraded = block_on(hyper::upgrade::on(&mut request)).unwrap().unwrap();
                    let parts = upgraded.downcast::<Resident<machinarium::net::TcpStream>>().ok().unwrap();
                    let stream = parts.io.into_inner().ok().unwrap();
                    let mut word = parts.read_buf.to_vec();
                    let mut rest = vec![0; 5 - word.len()];
                    stream.read_exact(&mut rest).unwrap();
                    word.append(&mut rest);
                    stream.write_all(&word.to_ascii_uppercase()).unwrap();
                });
                let mut answer = Response::new(Full::<Bytes>::default());
                *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let headers = answer.headers_mut();
                headers.insert("connection", "upgrade".parse().unwrap());
                headers.insert("upgrade", "shout".parse().unwrap());
                Ok::<_, Infallible>(answer)
            });
            let connection = server::conn::http1::Builder::new()
                .serve_connection(Resident::new(theirs).unwrap(), shout)
                .with_upgrades();
            block_on(connection)
        });
        ours.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: shout\r\n\r\nhel")?;
        let mut line = Vec::new();
        ours.read_until(b'\n', &mut line)?;
        assert_eq!(line, b"HTTP/1.1 101 Switching Protocols\r\n");
        while line != b"\r\n" {
            line.clear();
            ours.read_until(b'\n', &mut line)?;
        }
        ours.write_all(b"lo")?;
        let mut word = [0; 5];
        ours.read_exact(&mut word)?;
        assert_eq!(&word, b"HELLO");
        Ok(serving.join()???)
    });
}

/// A body that has no end, to a client that goes away: the server's task ends.
#[test]
fn a_client_that_leaves_ends_its_tasks() {
    both(|| {
        let (ours, theirs) = tcp()?;
        let serving = spawn(move || {
            let endless =
                service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Endless)) });
            block_on(server::conn::http2::Builder::new(Executor).serve_connection(theirs, endless))
        });
        block_on(async {
            let (mut requests, connection) = client::conn::http2::handshake(Executor, ours).await?;
            let connection = spawn(move || block_on(connection));
            let mut body = requests.send_request(request("/", vec![])).await?.into_body();
            for _ in 0..20 {
                body.frame().await.unwrap()?;
            }
            connection.cancel("the client has seen enough")?;
            assert!(connection.await?.is_err());
            Ok::<(), Error>(())
        })??;
        // What it says of it is the system's to decide.
        let _ = serving.join()??;
        Ok(())
    });
}

struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(Bytes::from_static(&[7; 1000])))))
    }
}
