//! Kernels for the host: every `cuda/*.cu` and `cuda/tests/*.cu` as C++, with what finds a kernel by its name.

use std::path::{Path, PathBuf};

/// Compile all kernels into one library, of which nothing is left out: kernels are found by name at run time.
pub(crate) fn build() {
    let folder = Path::new("cuda");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        // A bad index, shift or alignment ends the program.
        .flag("-fsanitize=undefined")
        .flag("-fsanitize-undefined-trap-on-error")
        .flag("-fno-sanitize=vptr")
        .flag("-fno-strict-aliasing")
        .flag("-ffp-contract=off")
        .flag("-Wno-unknown-pragmas")
        .include(folder)
        .cargo_metadata(false)
        .file(folder.join("emulation/emu.cpp"));
    let mut sources: Vec<_> = [folder, &folder.join("tests")]
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("a folder"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cu"))
        .collect();
    sources.sort();
    // `.cu` says nothing to a C++ compiler.
    build.flag("-xc++").files(sources);
    build.compile("vlinders_emulation");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=static:+whole-archive=vlinders_emulation");
    println!("cargo:rustc-link-lib=dylib=stdc++");
}
