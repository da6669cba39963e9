//! axum, by way of tower and hyper-util: one router, both versions of HTTP, and an end that lets requests finish.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode, client};
use hyper_util::server::{conn::auto, graceful::GracefulShutdown};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tower::ServiceExt;

use super::{Error, SHORT, block_on, both, spawn, tcp, tls};
use machinarium::adapter::hyper::{Executor, Timer};
use machinarium::machine::Resident;
use machinarium::net::Duplex;
use machinarium::sync::Mutex;
use machinarium::{sleep, yield_now};

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Note {
    text: String,
}

type Notes = Arc<Mutex<Vec<Note>>>;

/// Its handlers wait as coroutines do, and are `Send` all the same.
fn router() -> Router {
    let read = |State(notes): State<Notes>, Path(number): Path<usize>| async move {
        let notes = notes.lock().expect("a lock of a coroutine");
        let note = notes.get(number).ok_or(StatusCode::NOT_FOUND)?;
        Ok::<_, StatusCode>(Json(Note { text: note.text.clone() }))
    };
    let write = |State(notes): State<Notes>, Json(note): Json<Note>| async move {
        sleep(SHORT).expect("it is not cancelled");
        let mut notes = notes.lock().expect("a lock of a coroutine");
        notes.push(note);
        (StatusCode::CREATED, (notes.len() - 1).to_string())
    };
    Router::new()
        .route("/notes/{number}", get(read))
        .route("/notes", post(write))
        .with_state(Notes::default())
}

fn serve<S>(stream: S, graceful: &GracefulShutdown) -> machinarium::JoinHandle<Result<(), Error>>
where
    S: Duplex + 'static,
    Resident<S>: hyper::rt::Read + hyper::rt::Write,
{
    let watcher = graceful.watcher();
    let stream = Resident::new(stream).expect("on a machine");
    spawn(move || {
        let mut server = auto::Builder::new(Executor);
        server.http1().timer(Timer::new());
        server.http2().timer(Timer::new());
        let connection = server.serve_connection(stream, TowerToHyperService::new(router()));
        block_on(watcher.watch(connection.into_owned()))?.map_err(|error| -> Error { error })
    })
}

fn ask(method: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri(format!("http://localhost{path}"));
    let builder = builder.header("host", "localhost").header("content-type", "application/json");
    builder.body(Full::from(body.to_owned())).unwrap()
}

async fn told(answer: Response<Incoming>) -> Result<(u16, String), Error> {
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8(body.to_vec())?))
}

#[test]
fn a_router_alone_is_a_service() {
    both(|| {
        let answer = block_on(router().oneshot(ask("GET", "/notes/0", "")))??;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        Ok(())
    });
}

#[test]
fn axum_serves_both_versions() {
    both(|| {
        let graceful = GracefulShutdown::new();
        let (ours, theirs) = tcp()?;
        let first = serve(theirs, &graceful);
        block_on(async {
            let (mut requests, connection) = client::conn::http1::handshake(ours).await?;
            spawn(move || block_on(connection));
            let answer = requests.send_request(ask("POST", "/notes", r#"{"text":"one"}"#)).await?;
            assert_eq!(told(answer).await?, (201, "0".to_owned()));
            let answer = requests.send_request(ask("GET", "/notes/0", "")).await?;
            assert_eq!(told(answer).await?, (200, r#"{"text":"one"}"#.to_owned()));
            let answer = requests.send_request(ask("POST", "/notes", r#"{"no":"text"}"#)).await?;
            assert_eq!(told(answer).await?.0, 422);
            Ok::<(), Error>(())
        })??;

        let (ours, theirs) = tls(&["h2"])?;
        let second = serve(theirs, &graceful);
        block_on(async {
            let (mut requests, connection) = client::conn::http2::handshake(Executor, ours).await?;
            spawn(move || block_on(connection));
            let answer = requests.send_request(ask("POST", "/notes", r#"{"text":"two"}"#)).await?;
            assert_eq!(told(answer).await?, (201, "0".to_owned()));
            // In the middle of a request the end begins: it is answered.
            let late =
                spawn(move || block_on(requests.send_request(ask("POST", "/notes", r#"{"text":"late"}"#))));
            yield_now();
            sleep(SHORT * 10)?;
            graceful.shutdown().await;
            assert_eq!(told(late.await???).await?, (201, "1".to_owned()));
            Ok::<(), Error>(())
        })??;
        first.join()??;
        second.join()?
    });
}
