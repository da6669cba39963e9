//! Loom's in place of std's: same names as `src/shared/primitive.rs`, so the files beside it do not notice.

pub use loom::cell::UnsafeCell;
pub use loom::sync::Arc;
pub use loom::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, Ordering};

/// Loom switches at every operation by itself.
pub fn point() {}

/// Another thread must go on before this one can.
pub fn relax(_turns: u32) {
    loom::thread::yield_now();
}
