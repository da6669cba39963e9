//! stub
/// strace.
pub struct Traced;
