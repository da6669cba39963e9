//! What the script of a test does with a host's files: it makes them before the host starts, and looks afterwards.
//!
//! Its changes are on the disk at once: no power failure loses them.

use std::ffi::CString;

use super::contents::Contents;
use super::path::Path;
use super::{Disk, Kind, Node};
use crate::host::Host;

impl Host {
    /// Makes a directory, and those above it that are not there. There are `/`, `/run` and
    /// `/tmp` from the start.
    ///
    /// # Panics
    /// If a file is in the way.
    pub fn create_directory(&self, path: &str) {
        self.with_disk(|disk| disk.prepare_directory(&split(path)));
    }

    /// Makes a file with these bytes, or replaces its contents, and the directories above it that are not there.
    ///
    /// # Panics
    /// If something else is in the way, or a file where a directory should be.
    pub fn write_file(&self, path: &str, bytes: &[u8]) {
        self.with_disk(|disk| disk.prepare_file(split(path), bytes));
    }

    /// What a process of the host would read, if there is such a file.
    pub fn read_file(&self, path: &str) -> Option<Vec<u8>> {
        let text = CString::new(path).ok()?;
        self.with_disk(|disk| {
            let node = disk.find(&text).ok()?.node?;
            let Kind::File(contents) = &disk.node(node).kind else { return None };
            let mut bytes = vec![0; usize::try_from(contents.size()).expect("a file that fits into memory")];
            contents.read(0, &mut bytes);
            Some(bytes)
        })
    }

    /// How many bytes all its files may have together from now on: what does not fit answers ENOSPC.
    pub fn limit_disk(&self, bytes: u64) {
        self.with_disk(|disk| disk.capacity = bytes);
    }

    fn with_disk<R>(&self, work: impl FnOnce(&mut Disk) -> R) -> R {
        work(&mut self.simulated("a host's disk").state.borrow_mut().net.disks[self.index.0 as usize])
    }
}

fn split(path: &str) -> Path {
    path.split('/').filter(|name| !name.is_empty()).map(|name| name.as_bytes().to_vec()).collect()
}

impl Disk {
    fn prepare_directory(&mut self, path: &Path) {
        for end in 0..=path.len() {
            match self.names.get(&path[..end]) {
                Some(key) => assert!(self.is_directory(*key), "a file is where a directory should be"),
                None => self.make_directory(path[..end].to_vec()),
            }
        }
    }

    fn prepare_file(&mut self, path: Path, bytes: &[u8]) {
        self.prepare_directory(&path[..path.len().saturating_sub(1)].to_vec());
        let key = self.names.get(&path).copied().unwrap_or_else(|| {
            let contents = Kind::File(Contents::default());
            self.nodes.insert(Node { kind: contents, open: 0, modified: 0 })
        });
        assert!(self.is_file(key), "something else is where the file should be");
        let contents = self.contents(key);
        contents.truncate(0);
        contents.write(0, bytes);
        contents.sync();
        self.names.insert(path.clone(), key);
        self.stored.insert(path, key);
    }
}
