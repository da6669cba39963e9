//! The application: it knows nothing of what it runs on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize)]
struct Note {
    id: u64,
    text: Arc<str>,
}

#[derive(Deserialize)]
struct Draft {
    text: Arc<str>,
}

type Notes = State<Arc<Mutex<BTreeMap<u64, Note>>>>;

/// Notes to read, write and list, a hundred of which are there.
pub(crate) fn router() -> Router {
    let note = |id| (id, Note { id, text: format!("note {id}, of some length, as notes are").into() });
    let notes: BTreeMap<_, _> = (0..100).map(note).collect();
    Router::new()
        .route("/api/notes", get(list))
        .route("/api/notes/{id}", get(read).put(write))
        .with_state(Arc::new(Mutex::new(notes)))
}

async fn list(State(notes): Notes) -> Json<Vec<Note>> {
    Json(notes.lock().expect("nobody panics with it").values().cloned().collect())
}

async fn read(State(notes): Notes, Path(id): Path<u64>) -> Result<Json<Note>, StatusCode> {
    let note = notes.lock().expect("nobody panics with it").get(&id).cloned();
    note.map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn write(State(notes): Notes, Path(id): Path<u64>, Json(draft): Json<Draft>) -> Json<Note> {
    let note = Note { id, text: draft.text };
    notes.lock().expect("nobody panics with it").insert(id, note.clone());
    Json(note)
}
