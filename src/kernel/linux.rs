//! stub
/// The real kernel.
pub struct Linux;
