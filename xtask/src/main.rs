//! Housekeeping checks and the test command.

fn main() {}
