//! What the backend of the hunt does of SQL: a few statements, each of which says in a comment whose it is.
//!
//! ```text
//! SELECT rows 3 /*c1@0.2 7 -*/      the 7th request of client c1@0.2, which believes that it is in no transaction
//! COPY t FROM STDIN /*c1@0.2 8 T*/  and this one in one
//! SELECT echo 5                     is for all, as statements that are shared are: their parameter says whose it is
//! ```

/// Whose a statement is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tag {
    /// One client's one session.
    pub(crate) client: String,
    pub(crate) request: u64,
    /// Whether it is meant to be in a transaction.
    pub(crate) within: bool,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Statement {
    Begin,
    Commit,
    Rollback,
    /// So many rows.
    Rows(usize),
    /// One row, after so many milliseconds.
    Sleep(u64),
    /// One row with this text and the parameter.
    Echo(String),
    Fail,
    Show(String),
    Set(String, String),
    /// Something that outlives the transaction; it completes with this tag.
    Leave(&'static str),
    /// The data fails at this message, if there are so many.
    CopyIn(u64),
    CopyOut(usize),
    DiscardAll,
    /// What the pooler asks for: parameters, and those that are to be as they were.
    Configure(Vec<(String, Option<String>)>),
}

impl Tag {
    /// As a comment behind a statement.
    pub(crate) fn behind(&self, statement: &str) -> String {
        format!("{statement} /*{}*/", self.text())
    }

    /// As a parameter.
    pub(crate) fn text(&self) -> String {
        format!("{} {} {}", self.client, self.request, if self.within { 'T' } else { '-' })
    }

    pub(crate) fn parse(text: &str) -> Option<Tag> {
        let mut words = text.split(' ');
        let client = words.next()?.to_owned();
        Some(Tag { client, request: words.next()?.parse().ok()?, within: words.next()? == "T" })
    }

    /// What each row begins with.
    pub(crate) fn mark(&self) -> String {
        format!("{} {}", self.client, self.request)
    }
}

/// Reads a statement: whose it is, if it says so, and what.
pub(crate) fn parse(text: &str) -> Option<(Option<Tag>, Statement)> {
    let (statement, tag) = match text.split_once(" /*") {
        Some((statement, comment)) => (statement, Some(Tag::parse(comment.strip_suffix("*/")?)?)),
        None => (text, None),
    };
    Some((tag, read(statement)?))
}

fn read(text: &str) -> Option<Statement> {
    let words = text.split(' ').collect::<Vec<_>>();
    Some(match words.as_slice() {
        ["BEGIN"] => Statement::Begin,
        ["COMMIT"] => Statement::Commit,
        ["ROLLBACK"] => Statement::Rollback,
        ["SELECT", "rows", count] => Statement::Rows(count.parse().ok()?),
        ["SELECT", "sleep", time] => Statement::Sleep(time.parse().ok()?),
        ["SELECT", "echo", _] => Statement::Echo(text.to_owned()),
        ["SELECT", "1/0"] => Statement::Fail,
        ["SHOW", name] => Statement::Show((*name).to_owned()),
        ["SET", name, "TO", value] => Statement::Set((*name).to_owned(), value.trim_matches('\'').to_owned()),
        ["LISTEN", _] => Statement::Leave("LISTEN"),
        ["CREATE", "TEMP", "TABLE", ..] => Statement::Leave("CREATE TABLE"),
        ["SELECT", "pg_advisory_lock(1)"] => Statement::Leave("SELECT 1"),
        ["COPY", _, "FROM", "STDIN", fails] => Statement::CopyIn(fails.parse().ok()?),
        ["COPY", _, "TO", "STDOUT", count] => Statement::CopyOut(count.parse().ok()?),
        ["DISCARD", "ALL"] => Statement::DiscardAll,
        _ => Statement::Configure(configured(text)?),
    })
}

/// `SELECT pg_catalog.set_config('x', '1', false), ...; RESET "y"; ...`
fn configured(text: &str) -> Option<Vec<(String, Option<String>)>> {
    let mut all = Vec::new();
    for part in text.split("; ") {
        if let Some(name) = part.strip_prefix("RESET ") {
            all.push((name.trim_matches('"').to_owned(), None));
            continue;
        }
        for call in part.strip_prefix("SELECT pg_catalog.set_config(")?.split(", pg_catalog.set_config(") {
            let (name, value) = call.strip_suffix(", false)")?.split_once(", ")?;
            all.push((name.trim_matches('\'').to_owned(), Some(value.trim_matches('\'').to_owned())));
        }
    }
    Some(all)
}
