//! machinarium
#[doc(hidden)] // not an interface: public for the simulator, whose threads are coroutines
#[allow(unsafe_code)] // stacks and the switch
pub mod coroutine;
pub mod kernel;
#[doc(hidden)] // not an interface: public so that benches can measure it
#[allow(unsafe_code)] // memory handed from thread to thread
pub mod shared;
