//! What a world stands on: a simulation, or real Linux.
//!
//! Most of what a script may do to its world only a simulation can do. Whoever needs one asks for it here, by the name of
//! the call, and on real Linux the script ends there and says so.

use std::rc::Rc;

use crate::host::Host;
use crate::real::Loopback;
use crate::script::World;
use crate::world::Shared;

/// See the head of the file.
#[derive(Clone)]
pub(crate) enum Ground {
    Simulated(Rc<Shared>),
    Real(Rc<Loopback>),
}

impl Ground {
    fn simulated(&self, call: &'static str) -> &Rc<Shared> {
        match self {
            Ground::Simulated(shared) => shared,
            Ground::Real(real) => real.end_of_script(call),
        }
    }
}

impl World {
    /// The simulation, which `call` needs.
    pub(crate) fn simulated(&self, call: &'static str) -> &Rc<Shared> {
        self.ground.simulated(call)
    }
}

impl Host {
    /// The simulation, which `call` needs.
    pub(crate) fn simulated(&self, call: &'static str) -> &Rc<Shared> {
        self.ground.simulated(call)
    }
}
