//! What is asked over HTTP: the notes as JSON, the page that shows them, and the feed. The handlers are async by form alone: they wait as
//! coroutines do.

use std::io;
use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::feed::{self, Event, Feed};
use crate::server::Client;
use crate::store::{Note, Store};

/// The longest note, in bytes, and the longest body, which is a little more.
const LONGEST: usize = 10_000;
const LONGEST_BODY: usize = 64 << 10;

/// What all requests share, on all machines.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) feed: Feed,
    pub(crate) access: fn(&str),
}

type Shared = State<Arc<App>>;
type Id = Result<Path<u64>, PathRejection>;

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/api/notes", get(list).post(create))
        .route("/api/notes/{id}", get(read).put(replace).delete(remove))
        .route("/feed", get(feed::follow))
        .fallback(async || Refusal::nothing())
        .method_not_allowed_fallback(async || Refusal(StatusCode::METHOD_NOT_ALLOWED, "not so".to_owned()))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(middleware::from_fn_with_state(app.clone(), log))
        .with_state(app)
}

/// What a client sends.
#[derive(Deserialize)]
struct Draft {
    text: Arc<str>,
}

async fn list(State(app): Shared) -> Result<Json<Vec<Note>>, Refusal> {
    Ok(Json(app.store.list()?))
}

async fn read(State(app): Shared, id: Id) -> Result<Json<Note>, Refusal> {
    app.store.get(number(id)?)?.map(Json).ok_or_else(Refusal::nothing)
}

async fn create(
    State(app): Shared,
    draft: Result<Json<Draft>, JsonRejection>,
) -> Result<impl IntoResponse, Refusal> {
    let note = app.store.add(text_of(draft)?)?;
    app.feed.tell(&Event::Written(note.clone()))?;
    let location = format!("/api/notes/{}", note.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(note)))
}

async fn replace(
    State(app): Shared,
    id: Id,
    draft: Result<Json<Draft>, JsonRejection>,
) -> Result<Json<Note>, Refusal> {
    let note = app.store.replace(number(id)?, text_of(draft)?)?.ok_or_else(Refusal::nothing)?;
    app.feed.tell(&Event::Written(note.clone()))?;
    Ok(Json(note))
}

async fn remove(State(app): Shared, id: Id) -> Result<StatusCode, Refusal> {
    let id = number(id)?;
    if !app.store.remove(id)? {
        return Err(Refusal::nothing());
    }
    app.feed.tell(&Event::Removed { id })?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is no number is the name of nothing.
fn number(id: Id) -> Result<u64, Refusal> {
    id.map(|Path(id)| id).map_err(|_| Refusal::nothing())
}

fn text_of(draft: Result<Json<Draft>, JsonRejection>) -> Result<Arc<str>, Refusal> {
    let Json(Draft { text }) = draft.map_err(|error| Refusal(error.status(), error.body_text()))?;
    if text.len() > LONGEST {
        let why = format!("a note of {} bytes: at most {LONGEST}", text.len());
        return Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, why));
    }
    Ok(text)
}

/// Why a request is refused, as JSON.
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) String);

#[derive(Serialize)]
struct Told<'a> {
    error: &'a str,
}

impl Refusal {
    fn nothing() -> Refusal {
        Refusal(StatusCode::NOT_FOUND, "there is nothing of this name".to_owned())
    }
}

/// The store's errors are the server's.
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(Told { error: &self.1 })).into_response()
    }
}

/// A line for each request: who, what, how it ended, how long it took.
async fn log(State(app): Shared, request: Request, next: Next) -> Response {
    let begun = machinarium::now();
    let client = request.extensions().get::<Client>().map(|client| client.peer.to_string());
    let what = format!("{} {} {:?}", request.method(), request.uri(), request.version());
    let answer = next.run(request).await;
    let (client, took) = (client.unwrap_or_default(), machinarium::now() - begun);
    (app.access)(&format!("{client} {what} {} {took:?}", answer.status().as_u16()));
    answer
}
