//! One measurement: a group (a row of tables that are compared), a peer, and how it is measured.

/// What is measured, of whom.
pub struct Case {
    /// "yield/256"
    pub group: String,
    /// Who is measured. The first peer of a group is what the others are compared with.
    pub peer: &'static str,
    /// At most so many rounds: what takes long is measured less often.
    pub rounds: usize,
    /// Runs in a child process.
    pub measure: Box<dyn Fn() -> Vec<Metric>>,
}

/// A number with its unit in its name: "ns".
#[derive(Clone, PartialEq, Debug)]
pub struct Metric {
    /// What, and in which unit.
    pub name: String,
    /// How much.
    pub value: f64,
}

impl Case {
    /// A case with as many rounds as are asked for.
    pub fn new(
        group: impl Into<String>,
        peer: &'static str,
        measure: impl Fn() -> Vec<Metric> + 'static,
    ) -> Case {
        Case { group: group.into(), peer, rounds: usize::MAX, measure: Box::new(measure) }
    }

    /// The same, measured at most so often.
    pub fn at_most(self, rounds: usize) -> Case {
        Case { rounds, ..self }
    }
}

/// A number.
pub fn metric(name: &str, value: f64) -> Metric {
    Metric { name: name.to_owned(), value }
}
