//! machinarium
pub mod kernel;
#[doc(hidden)] // not an interface: public so that benches can measure it
#[allow(unsafe_code)] // memory handed from thread to thread
pub mod shared;
