//! Compiles device code: for the host with feature `emulation`.

#[path = "build/emulation.rs"]
mod emulation;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    if std::env::var_os("CARGO_FEATURE_EMULATION").is_some() {
        emulation::build();
    }
}
