//! Development commands of weir.

fn main() {}
