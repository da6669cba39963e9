//! The bytes of a file, twice: as processes see them, and as they are on the disk.
//!
//! A write changes what processes see. Of each sector that it touches it leaves a *version*, and until the next sync
//! any of a sector's versions may be the one that the disk has when the power fails, or the one of the last sync: the
//! page cache writes back in its own order, and a write of several sectors is torn. A sector is never mixed. The size has
//! versions of its own.
//!
//! | event | seen | on the disk | versions |
//! |---|---|---|---|
//! | write, truncate | changed | | one more of each sector touched |
//! | sync | | the last versions | none |
//! | sync that fails | | | none: nobody will write them, as on Linux, which takes the pages for clean |
//! | power failure | what is on the disk | a drawn version of each | none |

use std::collections::BTreeMap;

/// What a disk writes at once.
pub(crate) const SECTOR: u64 = 512;

type Sector = Box<[u8; SECTOR as usize]>;

/// Sectors that are not there are zeros.
#[derive(Clone, Default)]
struct Image {
    sectors: BTreeMap<u64, Sector>,
    size: u64,
}

/// See the head of the file.
#[derive(Clone, Default)]
pub(crate) struct Contents {
    seen: Image,
    stored: Image,
    /// Since the last sync, oldest first.
    versions: BTreeMap<u64, Vec<Sector>>,
    sizes: Vec<u64>,
}

/// One of `n`, at a site; 0 is the boring answer.
pub(crate) type Draw<'a> = dyn FnMut(&'static str, u64) -> u64 + 'a;

impl Contents {
    pub(crate) fn size(&self) -> u64 {
        self.seen.size
    }

    /// Whether a power failure may lose something.
    pub(crate) fn is_unsynced(&self) -> bool {
        !self.versions.is_empty() || !self.sizes.is_empty()
    }

    /// Copies what is there from `offset` on, and answers how much that is.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let count = self.seen.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        self.seen.read(offset, &mut buf[..count]);
        count
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        self.seen.write(offset, bytes);
        for number in offset / SECTOR..=(end - 1) / SECTOR {
            self.keep_version(number);
        }
        if end > self.seen.size {
            self.seen.size = end;
            self.sizes.push(end);
        }
    }

    pub(crate) fn truncate(&mut self, size: u64) {
        if size == self.seen.size {
            return;
        }
        for number in self.seen.cut(size) {
            self.keep_version(number);
        }
        self.seen.size = size;
        self.sizes.push(size);
    }

    /// What is seen is on the disk.
    pub(crate) fn sync(&mut self) {
        for (number, mut versions) in std::mem::take(&mut self.versions) {
            self.stored
                .sectors
                .insert(number, versions.pop().expect("a version of a sector that was touched"));
        }
        self.sizes.clear();
        self.stored.resize(self.seen.size);
    }

    /// The disk could not write, and nobody will try again.
    pub(crate) fn fail_to_sync(&mut self) {
        self.versions.clear();
        self.sizes.clear();
    }

    /// The power fails. True: something is lost.
    pub(crate) fn lose_power(&mut self, draw: &mut Draw<'_>) -> bool {
        let lost = match self.is_unsynced().then(|| draw("unsynced writes", 3)) {
            Some(0) => {
                self.sync();
                false
            }
            Some(1) => true,
            Some(_) => self.store_some(draw),
            None => false,
        };
        self.fail_to_sync();
        self.seen = self.stored.clone();
        lost
    }

    /// A drawn version of each sector and of the size is on the disk. True: not the last of each.
    fn store_some(&mut self, draw: &mut Draw<'_>) -> bool {
        let mut lost = false;
        // Counted from the last one back; one more than there are is the one of the last sync.
        let mut back = |versions: usize| {
            let back = draw("version on the disk", versions as u64 + 1) as usize;
            lost |= back > 0;
            versions.checked_sub(back + 1)
        };
        for (number, mut versions) in std::mem::take(&mut self.versions) {
            if let Some(place) = back(versions.len()) {
                self.stored.sectors.insert(number, versions.swap_remove(place));
            }
        }
        let size = back(self.sizes.len()).map_or(self.stored.size, |place| self.sizes[place]);
        self.stored.resize(size);
        lost
    }

    fn keep_version(&mut self, number: u64) {
        let version = self.seen.sectors.get(&number).cloned().unwrap_or_else(blank);
        self.versions.entry(number).or_default().push(version);
    }
}

impl Image {
    fn read(&self, offset: u64, buf: &mut [u8]) {
        pieces(offset, buf.len(), |number, at, piece| {
            let to = &mut buf[piece];
            match self.sectors.get(&number) {
                Some(sector) => to.copy_from_slice(&sector[at..at + to.len()]),
                None => to.fill(0),
            }
        });
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        pieces(offset, bytes.len(), |number, at, piece| {
            let from = &bytes[piece];
            let sector = self.sectors.entry(number).or_insert_with(blank);
            sector[at..at + from.len()].copy_from_slice(from);
        });
    }

    /// Makes zeros of what is beyond `size`, and answers which sectors that has changed.
    fn cut(&mut self, size: u64) -> Vec<u64> {
        let touched: Vec<u64> = self.sectors.range(size / SECTOR..).map(|(number, _)| *number).collect();
        for number in &touched {
            let kept = size.saturating_sub(number * SECTOR).min(SECTOR) as usize;
            self.sectors.get_mut(number).expect("found just now")[kept..].fill(0);
        }
        self.sectors.split_off(&size.div_ceil(SECTOR));
        touched
    }

    fn resize(&mut self, size: u64) {
        if size < self.size {
            self.cut(size);
        }
        self.size = size;
    }
}

fn blank() -> Sector {
    Box::new([0; SECTOR as usize])
}

/// Calls `each` with the sectors of a range: number, where in the sector it begins, and which part of the range it is.
fn pieces(offset: u64, len: usize, mut each: impl FnMut(u64, usize, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < len {
        let place = offset + done as u64;
        let at = (place % SECTOR) as usize;
        let count = (SECTOR as usize - at).min(len - done);
        each(place / SECTOR, at, done..done + count);
        done += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(contents: &Contents) -> Vec<u8> {
        let mut buf = vec![9; contents.size() as usize + 10];
        let count = contents.read(0, &mut buf);
        buf.truncate(count);
        buf
    }

    /// The answers of the disk, in their order, and zeros after them.
    fn draws(answers: &[u64]) -> impl FnMut(&'static str, u64) -> u64 {
        let mut answers = answers.iter().copied();
        move |_, n| answers.next().unwrap_or(0).min(n - 1)
    }

    #[test]
    fn what_was_written_is_read_across_sectors_and_holes_are_zeros() {
        let mut contents = Contents::default();
        contents.write(1_000, &[7; 600]);
        contents.write(1_020, &[8; 10]);
        let mut expected = vec![0; 1_000];
        expected.extend([7; 20]);
        expected.extend([8; 10]);
        expected.extend([7; 570]);
        assert_eq!(all(&contents), expected);
        contents.truncate(1_025);
        contents.truncate(1_030);
        expected.truncate(1_025);
        expected.extend([0; 5]);
        assert_eq!(all(&contents), expected);
    }

    #[test]
    fn a_sync_keeps_and_a_power_failure_keeps_all_or_nothing_of_the_rest() {
        let mut contents = Contents::default();
        contents.write(0, b"first");
        contents.sync();
        contents.write(2, b"XYZ and more");
        let mut kept = contents.clone();
        assert!(!kept.lose_power(&mut draws(&[0])));
        assert_eq!(all(&kept), b"fiXYZ and more");
        assert!(contents.lose_power(&mut draws(&[1])));
        assert_eq!(all(&contents), b"first");
        assert!(!contents.lose_power(&mut |_, _| panic!("nothing is left to decide")));
    }

    #[test]
    fn a_write_of_two_sectors_is_torn_and_a_sector_is_not() {
        let mut contents = Contents::default();
        contents.write(0, &[1; 1024]);
        contents.sync();
        contents.write(0, &[2; 1024]);
        contents.write(0, &[3; 100]);
        // Of the first sector the version before the last, of the second the one of the sync.
        let mut torn = contents.clone();
        assert!(torn.lose_power(&mut draws(&[2, 1, 1])));
        assert_eq!(all(&torn), [[2; 512], [1; 512]].concat());
    }

    #[test]
    fn a_size_may_be_there_without_its_bytes() {
        let mut contents = Contents::default();
        contents.write(0, &[1; 700]);
        let mut size_only = contents.clone();
        assert!(size_only.lose_power(&mut draws(&[2, 1, 1, 0])));
        assert_eq!(all(&size_only), [0; 700]);
        assert!(contents.lose_power(&mut draws(&[2, 0, 0, 1])));
        assert_eq!(all(&contents), [], "without its size, nothing of it is there");
    }

    #[test]
    fn what_a_failed_sync_has_left_no_later_one_writes() {
        let mut contents = Contents::default();
        contents.write(0, &[1; 512]);
        contents.fail_to_sync();
        contents.write(512, &[2; 512]);
        contents.sync();
        assert_eq!(all(&contents)[..512], [1; 512], "it is still seen");
        contents.lose_power(&mut draws(&[]));
        assert_eq!(all(&contents), [[0; 512], [2; 512]].concat());
    }

    #[test]
    fn what_was_cut_off_does_not_come_back() {
        let mut contents = Contents::default();
        contents.write(0, &[1; 2_000]);
        contents.sync();
        contents.truncate(100);
        contents.truncate(2_000);
        contents.sync();
        contents.lose_power(&mut draws(&[]));
        assert_eq!(all(&contents), [vec![1; 100], vec![0; 1_900]].concat());
    }
}
