//! The simulator itself: what a world promises, tried on programs on the bare kernel.

mod raw;
mod replay;
