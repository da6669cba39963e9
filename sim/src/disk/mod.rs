//! A host's file system: directories, files, and what a power failure leaves of them.
//!
//! It survives the end of a process, however that comes: what a process has written is in the page cache, and the next
//! one reads it. A power failure ([`Disk::lose_power`]) leaves what is on the disk. A file's contents are there after a sync
//! of the file (`contents`); its name after a sync of the directory it is in. Changes of names are a journal, written in
//! order: a sync of a directory writes it up to the last change in that directory, and a power failure loses none or some of its
//! end. A rename is one change, so it is never half done.
//!
//! There are no links, no permissions, no working directory but the root, and one file system. `path` reads paths,
//! `calls` has the system calls, `script` what a test may do.

mod calls;
mod contents;
mod path;
mod script;

use std::collections::BTreeMap;

use machinarium::kernel::{Access, Errno, Result};

use crate::slab::{Key, Slab};
use contents::{Contents, Draw};
use path::Path;

/// See the head of the file.
pub(crate) struct Disk {
    nodes: Slab<Node>,
    names: Names,
    /// The names that a power failure would leave, but for the journal.
    stored: Names,
    journal: Vec<Change>,
    /// How many bytes all files may have together.
    capacity: u64,
}

/// Every file and directory, by its path from the root. The root is the empty path.
type Names = BTreeMap<Path, Key>;

struct Node {
    kind: Kind,
    /// How many descriptors it has.
    open: usize,
    /// World time of the last change of its contents.
    modified: u64,
}

#[derive(Clone)]
enum Kind {
    Directory,
    File(Contents),
    /// What binding a Unix socket to a path has made. The socket may be gone.
    Socket(Key),
}

/// A change of names that is not yet on the disk.
struct Change {
    /// The directories it is in.
    parents: [Key; 2],
    what: What,
}

enum What {
    Link(Path, Key),
    Unlink(Path),
    Rename(Path, Path),
}

/// What a descriptor of a file is.
pub(crate) struct OpenFile {
    disk: usize,
    node: Key,
    access: Access,
    /// Where `read` and `write` go on.
    position: u64,
}

impl What {
    fn apply(&self, names: &mut Names) {
        match self {
            What::Link(path, key) => drop(names.insert(path.clone(), *key)),
            What::Unlink(path) => drop(names.remove(path)),
            What::Rename(from, to) => {
                let moved: Vec<Path> = names.keys().filter(|path| path.starts_with(from)).cloned().collect();
                for path in moved {
                    let key = names.remove(&path).expect("found just now");
                    names.insert([to, &path[from.len()..]].concat(), key);
                }
            }
        }
    }
}

impl Disk {
    /// A disk with the directories `/`, `/run` and `/tmp`.
    pub(crate) fn new() -> Disk {
        let mut disk = Disk {
            nodes: Slab::new(),
            names: Names::new(),
            stored: Names::new(),
            journal: Vec::new(),
            capacity: u64::MAX,
        };
        disk.make_directory(Path::new());
        disk.make_directory(vec![b"run".to_vec()]);
        disk.make_directory(vec![b"tmp".to_vec()]);
        disk
    }

    /// A directory that was always there.
    fn make_directory(&mut self, path: Path) {
        let key = self.nodes.insert(Node { kind: Kind::Directory, open: 0, modified: 0 });
        self.names.insert(path.clone(), key);
        self.stored.insert(path, key);
    }

    fn node(&self, key: Key) -> &Node {
        self.nodes.get(key).expect("a node that has a name or a descriptor")
    }

    fn node_mut(&mut self, key: Key) -> &mut Node {
        self.nodes.get_mut(key).expect("a node that has a name or a descriptor")
    }

    /// The contents of a node that is known to be a file.
    fn contents(&mut self, key: Key) -> &mut Contents {
        match &mut self.node_mut(key).kind {
            Kind::File(contents) => contents,
            Kind::Directory | Kind::Socket(_) => panic!("only a file has contents"),
        }
    }

    fn is_directory(&self, key: Key) -> bool {
        matches!(self.node(key).kind, Kind::Directory)
    }

    /// Changes the names, at once for whoever looks, and later on the disk.
    fn change(&mut self, parents: [Key; 2], what: What) {
        what.apply(&mut self.names);
        self.journal.push(Change { parents, what });
    }

    /// What is changed in this directory is on the disk.
    fn sync_directory(&mut self, directory: Key) {
        let concerns = |change: &Change| change.parents.contains(&directory);
        let Some(last) = self.journal.iter().rposition(concerns) else { return };
        for change in self.journal.drain(..=last) {
            change.what.apply(&mut self.stored);
        }
        self.collect();
    }

    /// The power fails: what is on the disk is all there is. No process has a descriptor any more. Answers how many names and
    /// files have lost something.
    pub(crate) fn lose_power(&mut self, draw: &mut Draw<'_>) -> (usize, usize) {
        let lost = draw("unsynced names", self.journal.len() as u64 + 1) as usize;
        let kept = self.journal.len() - lost;
        for change in self.journal.drain(..).take(kept) {
            change.what.apply(&mut self.stored);
        }
        self.names = self.stored.clone();
        let keys: Vec<Key> = self.nodes.iter().map(|(key, _)| key).collect();
        keys.iter().for_each(|key| self.node_mut(*key).open = 0);
        self.collect();
        let mut torn = 0;
        for key in keys {
            if let Some(Node { kind: Kind::File(contents), .. }) = self.nodes.get_mut(key) {
                torn += usize::from(contents.lose_power(draw));
            }
        }
        (lost, torn)
    }

    /// Forgets nodes that nobody can reach, not even after a power failure.
    fn collect(&mut self) {
        let mut reachable: Vec<Key> = self.names.values().chain(self.stored.values()).copied().collect();
        reachable.extend(self.journal.iter().filter_map(|change| match change.what {
            What::Link(_, key) => Some(key),
            _ => None,
        }));
        reachable.sort();
        let lost = |(key, node): (Key, &Node)| {
            (node.open == 0 && reachable.binary_search(&key).is_err()).then_some(key)
        };
        let lost: Vec<Key> = self.nodes.iter().filter_map(lost).collect();
        lost.into_iter().for_each(|key| drop(self.nodes.remove(key)));
    }

    /// How much more may be written.
    fn room(&self) -> u64 {
        let size = |node: &Node| match &node.kind {
            Kind::File(contents) => contents.size(),
            Kind::Directory | Kind::Socket(_) => 0,
        };
        // Only what has a name or a descriptor takes room.
        let mut named: Vec<Key> = self.names.values().copied().collect();
        named.sort();
        let counts = |key: &Key, node: &Node| node.open > 0 || named.binary_search(key).is_ok();
        let used: u64 =
            self.nodes.iter().filter(|(key, node)| counts(key, node)).map(|(_, node)| size(node)).sum();
        self.capacity.saturating_sub(used)
    }

    /// How many of `count` bytes at `offset` there is room for: ENOSPC if none.
    fn fitting(&self, key: Key, offset: u64, count: usize) -> Result<usize> {
        if self.capacity == u64::MAX {
            return Ok(count);
        }
        let Kind::File(contents) = &self.node(key).kind else { return Ok(count) };
        let end = contents.size() + self.room();
        match end.saturating_sub(offset).min(count as u64) {
            0 if count > 0 => Err(Errno::NOSPC),
            fits => Ok(fits as usize),
        }
    }
}
