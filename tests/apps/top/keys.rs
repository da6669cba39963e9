//! What is typed, of the bytes that a terminal sends for it.

/// A key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

/// The bytes of a key may come one by one. An escape with nothing behind it, in what has come at once, is the key of that name.
#[derive(Default)]
pub(crate) struct Keys {
    rest: Vec<u8>,
}

impl Keys {
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.rest.extend(bytes);
        let mut keys = Vec::new();
        while let Some((key, length)) = first(&self.rest) {
            keys.extend(key);
            self.rest.drain(..length);
        }
        keys
    }
}

/// The first key, and of how many bytes it is; a sequence that is not known is none. Nothing if there is only part of one.
fn first(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    match bytes {
        [] => None,
        [0x1b] => Some((Some(Key::Escape), 1)),
        [0x1b, b'[' | b'O', rest @ ..] => {
            let end = rest.iter().position(|byte| (0x40..=0x7e).contains(byte))?;
            Some((sequence(&rest[..=end]), end + 3))
        }
        [0x1b, ..] => Some((Some(Key::Escape), 1)),
        [b'\r' | b'\n', ..] => Some((Some(Key::Enter), 1)),
        [0x7f | 0x08, ..] => Some((Some(Key::Backspace), 1)),
        [control, ..] if control.is_ascii_control() => Some((None, 1)),
        _ => {
            let longest = &bytes[..bytes.len().min(4)];
            match std::str::from_utf8(longest) {
                Ok(text) => text.chars().next().map(|c| (Some(Key::Char(c)), c.len_utf8())),
                Err(error) if error.valid_up_to() > 0 => {
                    let c = String::from_utf8_lossy(&longest[..error.valid_up_to()]).chars().next()?;
                    Some((Some(Key::Char(c)), c.len_utf8()))
                }
                Err(error) => error.error_len().map(|length| (None, length)),
            }
        }
    }
}

fn sequence(end: &[u8]) -> Option<Key> {
    match end {
        b"A" => Some(Key::Up),
        b"B" => Some(Key::Down),
        b"5~" => Some(Key::PageUp),
        b"6~" => Some(Key::PageDown),
        b"H" | b"1~" | b"7~" => Some(Key::Home),
        b"F" | b"4~" | b"8~" => Some(Key::End),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_bytes() {
        let mut keys = Keys::default();
        assert_eq!(
            keys.take(b"q\x1b[A\x1b[6~\x1bOH\x1b[1;5C/\r\x7f\x01"),
            [Key::Char('q'), Key::Up, Key::PageDown, Key::Home, Key::Char('/'), Key::Enter, Key::Backspace]
        );
        assert_eq!(keys.take(b"\x1b"), [Key::Escape]);
        assert_eq!(keys.take(b"\x1b["), []);
        assert_eq!(keys.take(b"B"), [Key::Down]);
        assert_eq!(keys.take("\u{e9}".as_bytes()), [Key::Char('\u{e9}')]);
        assert_eq!(keys.take(b"\xe2\x98"), []);
        assert_eq!(keys.take(b"\x83x\xff"), [Key::Char('\u{2603}'), Key::Char('x')]);
    }
}
