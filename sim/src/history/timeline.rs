//! What is said of a history that no order explains: how far one does, and a picture of the calls around the place where it ends.
//!
//! One line for each call, in the order of their beginnings. The scale is of moments, not of time: every beginning and every end
//! in the picture is as far from the next. The numbers are an order that explains all answers before the one that nothing does.
//!
//! ```text
//! 1  alice  |------|           Write(1) -> Done
//! -  bob        |------------> Write(2), never answered
//! X  alice            |---|    Read -> Value(0)
//! ```

use std::fmt::{self, Debug, Write as _};

use super::search::Stop;
use super::{Moment, Operation};
use crate::report::seconds;

/// How many calls are drawn.
const ROWS: usize = 24;
/// How wide the picture of the moments is at most.
const WIDTH: usize = 64;
/// How long a call and its answer are in words.
const WORDS: usize = 60;

/// A history that no order of its calls explains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The part of the object, as the model names it.
    pub part: String,
    /// The operation whose answer no order explains.
    pub culprit: String,
    /// An order that explains all answers before it, each operation in words.
    pub order: Vec<String>,
    /// The calls around it.
    pub timeline: String,
}

impl Violation {
    pub(super) fn new<C: Debug, A: Debug>(
        part: String,
        operations: &[&Operation<C, A>],
        stop: &Stop,
    ) -> Violation {
        let told = |index: usize| {
            let operation = operations[index];
            format!("{}: {}", operation.client, words(operation))
        };
        Violation {
            part,
            culprit: told(stop.culprit),
            order: stop.order.iter().map(|&index| told(index)).collect(),
            timeline: draw(operations, stop),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "not linearizable: no order of the calls explains {}", self.culprit)?;
        if self.part != "()" {
            writeln!(f, "of the calls on {}:", self.part)?;
        }
        let count = self.order.len();
        writeln!(f, "an order of {count} calls explains every answer before it; it is numbered:")?;
        f.write_str(&self.timeline)
    }
}

/// A call and what came of it.
fn words<C: Debug, A: Debug>(operation: &Operation<C, A>) -> String {
    let text = match &operation.end {
        Some((answer, _)) => format!("{:?} -> {answer:?}", operation.call),
        None => format!("{:?}, never answered", operation.call),
    };
    match text.char_indices().nth(WORDS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The last calls that began before the culprit's end.
fn draw<C: Debug, A: Debug>(operations: &[&Operation<C, A>], stop: &Stop) -> String {
    let end = |index: usize| operations[index].end.as_ref().map(|(_, moment)| *moment);
    let last = end(stop.culprit).expect("a culprit was answered");
    let begun: Vec<usize> = (0..operations.len()).filter(|&index| operations[index].began < last).collect();
    let rows = &begun[begun.len().saturating_sub(ROWS)..];
    let began = |index: usize| operations[index].began;
    let moments: Vec<Moment> = scale(rows.iter().flat_map(|&row| [Some(began(row)), end(row)]), last);
    let column = |moment: Moment| {
        let place = moments.partition_point(|other| *other < moment);
        place * (WIDTH - 1) / (moments.len() - 1).max(WIDTH / 4)
    };
    let wide = rows.iter().map(|&row| operations[row].client.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    if rows.len() < begun.len() {
        let _ = writeln!(text, "  ({} earlier calls are not drawn)", begun.len() - rows.len());
    }
    let edge = column(last);
    for &row in rows {
        let (left, right) = (column(began(row)), end(row).filter(|end| *end <= last).map(column));
        let bar = "-".repeat(right.unwrap_or(edge).saturating_sub(left + 1));
        let bar = format!("{}|{bar}{}", " ".repeat(left), if right.is_some() { "|" } else { ">" });
        let number = stop.order.iter().position(|&made| made == row).map(|place| (place + 1).to_string());
        let mark = if row == stop.culprit { "X".to_owned() } else { number.unwrap_or("-".to_owned()) };
        let (client, words) = (&operations[row].client, words(operations[row]));
        let at = seconds(began(row).at);
        let _ = writeln!(text, "{at:>13} {mark:>4}  {client:<wide$}  {bar:<0$}  {words}", edge + 1);
    }
    let _ = writeln!(text, "{:>13} s, when the answer came that nothing explains", seconds(last.at));
    text
}

/// The moments of a picture that ends with `last`, in their order.
fn scale(moments: impl Iterator<Item = Option<Moment>>, last: Moment) -> Vec<Moment> {
    let mut moments: Vec<Moment> = moments.flatten().filter(|moment| *moment <= last).collect();
    moments.sort_unstable();
    moments
}
