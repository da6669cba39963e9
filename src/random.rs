//! Randomness of the kernel's: the system's on Linux, the seed's in a world.
//!
//! It is fit for keys. For much of it, or for distributions, seed a generator of the crate `rand` with it, which then replays too.

use crate::machine::current;

/// What one `getrandom(2)` gives without being short.
const MOST: usize = 256;

/// Fills `buf` with random bytes. It does not wait, and cannot fail.
///
/// ```
/// let mut key = [0; 32];
/// machinarium::random::fill(&mut key);
/// assert_ne!(key, [0; 32]);
/// ```
pub fn fill(buf: &mut [u8]) {
    let kernel = current::kernel();
    for part in buf.chunks_mut(MOST) {
        kernel.getrandom(part);
    }
}

/// A random number.
pub fn u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}
