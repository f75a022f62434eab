//! When this crate is compiled again: also when a migration is added, which no compiler sees.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
