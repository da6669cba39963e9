//! Paths: from text to the names that lead from the root to a file, checked as Linux walks them.
//!
//! Every name but the last must be that of a directory. `.` is where one is, `..` is above, and above the root is the root.

use std::ffi::CStr;

use machinarium::kernel::{Errno, Result};

use super::Disk;
use crate::slab::Key;

/// Names from the root on.
pub(super) type Path = Vec<Vec<u8>>;

/// The longest path, with its zero, and the longest name.
const PATH_MAX: usize = 4_096;
const NAME_MAX: usize = 255;

/// Where a path leads.
pub(super) struct Place {
    pub(super) path: Path,
    /// The directory that has it, or would.
    pub(super) parent: Key,
    pub(super) node: Option<Key>,
    /// It ends in a slash, so it is to be a directory.
    pub(super) slash: bool,
    /// The last name is `.` or `..`, or there is none: it leads to a directory, which cannot be moved or removed so.
    pub(super) special: bool,
}

/// What can be said of a path without a disk.
pub(super) fn check(path: &CStr) -> Result<()> {
    match path.to_bytes_with_nul().len() {
        1 => Err(Errno::NOENT),
        length if length > PATH_MAX => Err(Errno::NAMETOOLONG),
        _ => Ok(()),
    }
}

impl Disk {
    /// Walks `path`. Everything but its last name must be there.
    pub(super) fn find(&self, path: &CStr) -> Result<Place> {
        check(path)?;
        self.find_bytes(path.to_bytes())
    }

    pub(super) fn find_bytes(&self, bytes: &[u8]) -> Result<Place> {
        let mut names = bytes.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).peekable();
        let mut walked = Path::new();
        let mut special = true;
        while let Some(name) = names.next() {
            if name.len() > NAME_MAX {
                return Err(Errno::NAMETOOLONG);
            }
            special = false;
            match name {
                b"." => special = true,
                b".." => {
                    special = true;
                    walked.pop();
                }
                name => walked.push(name.to_vec()),
            }
            if names.peek().is_some() {
                let key = *self.names.get(&walked).ok_or(Errno::NOENT)?;
                if !self.is_directory(key) {
                    return Err(Errno::NOTDIR);
                }
            }
        }
        let parent = self.names[walked.split_last().map_or(&[][..], |(_, parent)| parent)];
        let node = self.names.get(&walked).copied();
        Ok(Place { path: walked, parent, node, slash: bytes.ends_with(b"/"), special })
    }

    /// Whether the directory of this path has nothing in it.
    pub(super) fn is_empty(&self, path: &Path) -> bool {
        let mut inside = self.names.range(path.clone()..);
        inside.next();
        inside.next().is_none_or(|(next, _)| !next.starts_with(path))
    }
}
