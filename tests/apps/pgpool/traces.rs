//! What outlives a transaction on a server connection, if a client leaves it there: settings, temporary tables, advisory locks, SQL's
//! prepared statements, cursors, channels that are listened to. Where some of it may be left, the connection is reset before the next client
//! has it.
//!
//! Most of it is known by the tags of the commands that were completed: of all but those that read and write tables, it may be left. What a tag
//! does not tell is known by a word in the query: `SELECT 1` is also what `SELECT set_config(..)`, `SELECT pg_advisory_lock(..)` and `CREATE TEMP
//! TABLE .. AS SELECT` complete with. A function that does one of these inside of the server is not seen; `reset_always` is for those who have
//! such functions.

/// Words of queries, in lower case, that something may be left after. A word that only looks like it costs one reset.
const WORDS: [&[u8]; 3] = [b"temp", b"set_config", b"advisory_lock"];

/// Whether a command may have left something, by the tag of its CommandComplete.
pub(crate) fn are_left_by(tag: &[u8]) -> bool {
    let end = tag.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(tag.len());
    !matches!(
        &tag[..end],
        b"SELECT"
            | b"INSERT"
            | b"UPDATE"
            | b"DELETE"
            | b"MERGE"
            | b"COPY"
            | b"FETCH"
            | b"MOVE"
            | b"CLOSE"
            | b"BEGIN"
            | b"START"
            | b"COMMIT"
            | b"ROLLBACK"
            | b"SAVEPOINT"
            | b"RELEASE"
            | b"SHOW"
            | b"EXPLAIN"
            | b"LOCK"
            | b"TRUNCATE"
            | b"NOTIFY"
            | b"ANALYZE"
            | b"VACUUM"
    )
}

/// Whether a query may leave something that its tag does not tell.
pub(crate) fn may_be_left_by(query: &[u8]) -> bool {
    let begins = |place: usize, word: &[u8]| {
        query.get(place..place + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word))
    };
    (0..query.len()).any(|place| {
        // Most places are none where a word begins.
        matches!(query[place] | 0x20, b't' | b's' | b'a') && WORDS.iter().any(|word| begins(place, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_on_tables_leave_nothing() {
        for tag in [
            "SELECT 10",
            "INSERT 0 1",
            "UPDATE 0",
            "BEGIN",
            "START TRANSACTION",
            "COMMIT",
            "COPY 7",
            "EXPLAIN",
        ] {
            assert!(!are_left_by(&[tag.as_bytes(), &[0]].concat()), "{tag}");
        }
        for tag in [
            "SET",
            "CREATE TABLE",
            "LISTEN",
            "PREPARE",
            "DECLARE CURSOR",
            "DO",
            "CALL",
            "LOAD",
            "DISCARD ALL",
            "",
        ] {
            assert!(are_left_by(&[tag.as_bytes(), &[0]].concat()), "{tag}");
        }
    }

    #[test]
    fn what_a_tag_does_not_tell_is_seen_in_the_query() {
        for query in [
            "select pg_advisory_lock(1)",
            "SELECT PG_TRY_ADVISORY_LOCK_SHARED(1)",
            "select set_config('a', 'b', false)",
            "create TEMPORARY table t as select 1",
            "select 1 into temp t",
        ] {
            assert!(may_be_left_by(query.as_bytes()), "{query}");
        }
        for query in ["", "t", "select pg_advisory_xact_lock(1)", "update t set x = 1", "select set_conf"] {
            assert!(!may_be_left_by(query.as_bytes()), "{query}");
        }
    }
}
