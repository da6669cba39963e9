//! A table as an answer to a query: what the console says.

use crate::message::{put, put_text};

/// Rows of texts.
pub(crate) struct Table {
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

/// The type `text`.
const TEXT: u32 = 25;

impl Table {
    pub(crate) fn new(columns: &'static [&'static str], rows: Vec<Vec<String>>) -> Table {
        assert!(rows.iter().all(|row| row.len() == columns.len()), "each row has each column");
        Table { columns, rows }
    }

    /// Appends RowDescription, DataRows and CommandComplete.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put(out, b'T', |body| {
            body.extend((self.columns.len() as u16).to_be_bytes());
            for name in self.columns {
                put_text(body, name.as_bytes());
                // No table, no column; the type, of any length, without modifier, in text.
                body.extend([0; 6]);
                body.extend(TEXT.to_be_bytes());
                body.extend((-1_i16).to_be_bytes());
                body.extend((-1_i32).to_be_bytes());
                body.extend([0; 2]);
            }
        });
        for row in &self.rows {
            put(out, b'D', |body| {
                body.extend((row.len() as u16).to_be_bytes());
                for value in row {
                    body.extend((value.len() as u32).to_be_bytes());
                    body.extend(value.as_bytes());
                }
            });
        }
        put(out, b'C', |body| put_text(body, b"SHOW"));
    }
}
