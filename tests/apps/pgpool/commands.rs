//! What the console can do.

use std::rc::Rc;
use std::time::Duration;

use crate::config::ANY;
use crate::failure::code;
use crate::pooler::Pooler;
use crate::reload::{self, on_all};
use crate::show;
use crate::table::Table;

/// What a command answers.
pub(crate) enum Answer {
    Table(Table),
    Notice(String),
    /// Its name, when it is done.
    Done(&'static str),
}

const HELP: &str = "SHOW POOLS | CLIENTS | SERVERS | STATS | DATABASES | CONFIG | VERSION
PAUSE [DATABASE]      waits until its clients have done, and closes the server connections
RESUME [DATABASE]
RELOAD                reads the configuration again
KILL CLIENT           ends the session of a client, by its id in SHOW CLIENTS
SHUTDOWN              ends the pooler when transactions have ended";

/// How often PAUSE looks whether all is quiet.
const LOOK: Duration = Duration::from_millis(10);

/// Runs a command.
///
/// # Errors
/// SQLSTATE and text.
pub(crate) fn run(pooler: &Rc<Pooler>, command: &str) -> Result<Answer, (&'static str, String)> {
    let words = command.split_ascii_whitespace().collect::<Vec<_>>();
    let verb = words[0].to_ascii_uppercase();
    let unknown = || (code::SYNTAX, format!("the console does not know {command:?}: try SHOW HELP"));
    match (verb.as_str(), &words[1..]) {
        ("SHOW", [what]) if what.eq_ignore_ascii_case("help") => Ok(Answer::Notice(HELP.to_owned())),
        ("SHOW", [what]) => {
            show::table(pooler, &what.to_ascii_uppercase()).map(Answer::Table).ok_or_else(unknown)
        }
        ("HELP", []) => Ok(Answer::Notice(HELP.to_owned())),
        ("PAUSE", []) => pause(pooler, None),
        ("PAUSE", [database]) => pause(pooler, Some(find(pooler, database)?)),
        ("RESUME", []) => Ok(resume(pooler, None)),
        ("RESUME", [database]) => Ok(resume(pooler, Some(find(pooler, database)?))),
        ("RELOAD", []) => {
            let result = reload::reload();
            reload::say(&result);
            result
                .map(Answer::Notice)
                .map_err(|why| (code::NO_FEATURE, format!("what was read before stays: {why}")))
        }
        ("KILL", [id]) => {
            kill(pooler, id).ok_or_else(|| (code::SYNTAX, format!("no client has the id {id:?}")))
        }
        ("SHUTDOWN", []) => {
            pooler.common.end.shutdown.begin("SHUTDOWN");
            Ok(Answer::Done("SHUTDOWN"))
        }
        _ => Err(unknown()),
    }
}

fn find(pooler: &Pooler, database: &str) -> Result<String, (&'static str, String)> {
    let name = database.trim_matches('"');
    let known = pooler.config().database(name).is_some() || name == ANY;
    known
        .then(|| name.to_owned())
        .ok_or_else(|| (code::NO_DATABASE, format!("there is no database {name:?}")))
}

fn pause(pooler: &Pooler, database: Option<String>) -> Result<Answer, (&'static str, String)> {
    on_all(&pooler.common.machines, {
        let database = database.clone();
        move |pooler: &Pooler| pooler.pause(database.as_deref())
    });
    loop {
        let name = database.clone();
        let busy =
            on_all(&pooler.common.machines, move |pooler: &Pooler| pooler.connections(name.as_deref()));
        // A RESUME in between ends it too.
        if busy.iter().all(|busy| busy.is_none_or(|count| count == 0)) {
            return Ok(Answer::Done("PAUSE"));
        }
        machinarium::sleep(LOOK).map_err(|error| (code::SHUTDOWN, error.to_string()))?;
    }
}

fn resume(pooler: &Pooler, database: Option<String>) -> Answer {
    on_all(&pooler.common.machines, move |pooler: &Pooler| pooler.resume(database.as_deref()));
    Answer::Done("RESUME")
}

fn kill(pooler: &Pooler, id: &str) -> Option<Answer> {
    let process: u32 = id.parse().ok()?;
    let killed = on_all(&pooler.common.machines, move |pooler: &Pooler| {
        let client = pooler.clients().into_iter().find(|client| client.key.0 == process);
        client.map(|client| client.kill("an admin has ended this session")).is_some()
    });
    killed.contains(&true).then_some(Answer::Done("KILL"))
}
