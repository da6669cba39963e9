//! The terminal: taken at the start, drawn on, and given back as it was, however this ends.
//!
//! What is typed comes at once and is not shown; Ctrl-C stays a signal, and Ctrl-Z is none. `stty` does that, as no safe call of std does.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use console::Term;

use crate::draw::{Line, Style};

/// See the head of the file.
pub(crate) struct Terminal {
    screen: Term,
    /// Its settings, as `stty` says them.
    before: String,
}

impl Terminal {
    /// # Errors
    /// If it cannot be set.
    pub(crate) fn take() -> io::Result<Terminal> {
        let before = stty(&["-g"])?;
        let terminal = Terminal { screen: Term::buffered_stdout(), before: before.trim().to_owned() };
        stty(&["-icanon", "-echo", "min", "1", "time", "0", "susp", "undef"])?;
        // The other screen, and no cursor.
        io::stdout().write_all(b"\x1b[?1049h\x1b[?25l")?;
        Ok(terminal)
    }

    /// Columns and lines.
    pub(crate) fn size(&self) -> (usize, usize) {
        let (lines, columns) = self.screen.size();
        (columns.into(), lines.into())
    }

    /// As many lines as there are on it, none of them too long, by one write: so nobody sees half of it.
    pub(crate) fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        for (place, line) in lines.iter().enumerate() {
            let style = match line.style {
                Style::Plain => "",
                Style::Head => "\x1b[7m",
                Style::Alert => "\x1b[1;31m",
                Style::Faint => "\x1b[2m",
            };
            let before = if place == 0 { "" } else { "\r\n" };
            text += &format!("{before}\x1b[2K{style}{}\x1b[0m", line.text);
        }
        io::stdout().write_all(text.as_bytes())?;
        io::stdout().flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If it has gone, there is nobody to give it back to.
        let _ = io::stdout().write_all(b"\x1b[?25h\x1b[?1049l").and_then(|()| io::stdout().flush());
        let _ = stty(&[&self.before]);
    }
}

/// What it says.
fn stty(arguments: &[&str]) -> io::Result<String> {
    let output = Command::new("stty").args(arguments).stdin(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("stty: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
