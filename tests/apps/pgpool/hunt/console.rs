//! The console, as an operator's program sees it.

use std::io;

use super::backend::text_of;
use super::talk::{Door, Talk};
use crate::message::{put_query, take_text};

/// One connection to it.
pub(crate) struct Console(Talk);

/// What it shows.
#[derive(Default, Debug)]
pub(crate) struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// One line of that.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    columns: &'a [String],
    values: &'a [String],
}

impl Console {
    pub(crate) fn open(door: &Door) -> io::Result<Console> {
        Ok(Console(Talk::open(door, "pgpool", "operator".to_owned(), &[])?))
    }

    /// Runs a command: whether it went well.
    pub(crate) fn run(&mut self, command: &str) -> io::Result<bool> {
        Ok(self.ask(command)?.is_some())
    }

    pub(crate) fn show(&mut self, table: &str) -> io::Result<Table> {
        Ok(self.ask(&format!("SHOW {table}"))?.expect("a table"))
    }

    /// `None`: an error.
    fn ask(&mut self, command: &str) -> io::Result<Option<Table>> {
        put_query(&mut self.0.out, command);
        self.0.send()?;
        let mut table = Some(Table::default());
        loop {
            let (kind, body) = self.0.message()?;
            match (kind, &mut table) {
                (b'T', Some(table)) => table.columns = columns(&body),
                (b'D', Some(table)) => table.rows.push(values(&body)),
                (b'E', _) => table = None,
                (b'Z', _) => return Ok(table),
                _ => {}
            }
        }
    }

    pub(crate) fn end(self) -> io::Result<()> {
        self.0.end()
    }
}

impl Table {
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|values| Row { columns: &self.columns, values })
    }

    pub(crate) fn column(&self, name: &str) -> impl Iterator<Item = &str> {
        let place = self.columns.iter().position(|column| column == name).expect("a column");
        self.rows.iter().map(move |row| row[place].as_str())
    }
}

impl Row<'_> {
    pub(crate) fn number(&self, name: &str) -> usize {
        let place = self.columns.iter().position(|column| column == name).expect("a column");
        self.values[place].parse().expect("a number")
    }
}

fn columns(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut names = Vec::new();
    while let Some(name) = take_text(&mut rest) {
        names.push(text_of(name));
        rest = &rest[18..];
    }
    names
}

/// The columns of a DataRow.
pub(crate) fn values(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut values = Vec::new();
    while let Some((length, data)) = rest.split_first_chunk::<4>() {
        let (value, behind) = data.split_at(u32::from_be_bytes(*length) as usize);
        values.push(text_of(value));
        rest = behind;
    }
    values
}
