//! Owns the cases that ship with weir.

/// A case that ships with weir.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// Its name, which is that of its folder.
    pub name: &'static str,
    /// Its `case.toml`.
    pub case: &'static str,
    /// Its `baseline.json`.
    pub baseline: Option<&'static str>,
}

macro_rules! shipped {
    ($name:literal) => {
        Shipped { name: $name, case: include_str!(concat!("../../../bench-data/cases/", $name, "/case.toml")), baseline: None }
    };
    ($name:literal, measured) => {
        Shipped {
            baseline: Some(include_str!(concat!("../../../bench-data/cases/", $name, "/baseline.json"))),
            ..shipped!($name)
        }
    };
}

/// All of them.
pub static SHIPPED: [Shipped; 7] = [
    shipped!("smoke"),
    shipped!("day", measured),
    shipped!("day-js", measured),
    shipped!("steady-10x", measured),
    shipped!("steady-100x", measured),
    shipped!("steady-100x-singly", measured),
    shipped!("million-series", measured),
];
