//! From each source one fatbin with code for every GPU we support, compiled again only when something in it changed.

use std::fs;
use std::path::{Path, PathBuf};

use super::nvcc::{self, Nvcc};

/// Real architectures; those that the compiler does not know are left out.
const ARCHS: [&str; 4] = ["80", "89", "90", "100"];

/// What a fatbin holds.
pub(crate) struct Targets {
    /// Machine code, as `90`.
    archs: Vec<String>,
    /// PTX of this architecture, from which drivers make code for any newer one.
    ptx: Option<String>,
}

impl Targets {
    /// Everything we support, or, for quick builds, just the architectures that are `chosen` (`90`, `80,90`).
    ///
    /// # Errors
    /// The compiler does not say what it knows, or does not know what is chosen.
    pub(crate) fn choose(nvcc: &Nvcc, chosen: Option<&str>) -> Result<Self, String> {
        let said = nvcc::run(nvcc.command().arg("--list-gpu-arch"))?;
        let known: Vec<_> = said.lines().filter_map(|line| line.trim().strip_prefix("compute_")).collect();
        let chosen = chosen.filter(|chosen| !chosen.trim().is_empty());
        let Some(chosen) = chosen else {
            let archs: Vec<_> =
                ARCHS.iter().filter(|arch| known.contains(*arch)).copied().map(str::to_owned).collect();
            return Ok(Self { ptx: archs.first().cloned(), archs });
        };
        let words = chosen.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        let archs: Vec<_> = words.map(str::to_owned).collect();
        match archs.iter().find(|arch| !known.contains(&arch.as_str())) {
            None => Ok(Self { archs, ptx: None }),
            Some(arch) => Err(format!(
                "VLINDERS_CUDA_ARCHS has {arch}, and nvcc {} knows {}",
                nvcc.version,
                known.join(", ")
            )),
        }
    }

    fn flags(&self, source: &Path) -> Result<Vec<String>, String> {
        let mut flags = Vec::new();
        for arch in &self.archs {
            let arch = nvcc::arch_of(source, arch)?;
            flags.push(format!("-gencode=arch=compute_{arch},code=sm_{arch}"));
        }
        flags.extend(self.ptx.iter().map(|arch| format!("-gencode=arch=compute_{arch},code=compute_{arch}")));
        Ok(flags)
    }
}

struct Module {
    name: String,
    source: PathBuf,
    args: Vec<String>,
    /// Named by the fingerprint of what it is made from, so it is up to date when it exists.
    fatbin: PathBuf,
}

/// Make the fatbins of `sources`, which are in `folder`, and `out/modules.rs`, which embeds them.
///
/// # Errors
/// What nvcc says, or a file that can not be read or written.
pub(crate) fn build(
    nvcc: &Nvcc,
    folder: &Path,
    sources: &[PathBuf],
    out: &Path,
    targets: &Targets,
    jobs: usize,
) -> Result<(), String> {
    let mut modules = Vec::new();
    for source in sources {
        let mut args: Vec<_> = nvcc::FLAGS.map(str::to_owned).into();
        args.extend(["--fatbin", "-Xfatbin=-compress-all"].map(str::to_owned));
        args.extend(targets.flags(source)?);
        let name = nvcc::stem(source);
        let fatbin = out.join(format!("{name}-{}.fatbin", nvcc.fingerprint(folder, source, &args)?));
        modules.push(Module { name, source: source.clone(), args, fatbin });
    }
    remove_others(out, &modules)?;
    nvcc::in_parallel(jobs, &modules, |module| module.compile(nvcc, folder))?;
    write(&out.join("modules.rs"), &embedding(&modules))
}

impl Module {
    fn compile(&self, nvcc: &Nvcc, folder: &Path) -> Result<(), String> {
        if self.fatbin.exists() {
            return Ok(());
        }
        // What an interrupted compilation leaves must not look like a fatbin.
        let part = self.fatbin.with_extension("part");
        let file = self.source.strip_prefix(folder).unwrap_or(&self.source);
        nvcc::run(nvcc.command().current_dir(folder).args(&self.args).arg("-o").arg(&part).arg(file))?;
        fs::rename(&part, &self.fatbin).map_err(|error| format!("cannot rename {}: {error}", part.display()))
    }
}

fn embedding(modules: &[Module]) -> String {
    let mut text = String::from("pub(crate) static FATBINS: &[(&str, &[u8])] = &[\n");
    for Module { name, fatbin, .. } in modules {
        text += &format!("    ({name:?}, include_bytes!({:?})),\n", fatbin.display().to_string());
    }
    text + "];\n"
}

/// Fatbins of earlier builds.
fn remove_others(out: &Path, modules: &[Module]) -> Result<(), String> {
    let failed = |error| format!("cannot clean {}: {error}", out.display());
    for entry in fs::read_dir(out).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let fatbin = path.extension().is_some_and(|ending| ending == "fatbin" || ending == "part");
        if fatbin && modules.iter().all(|module| module.fatbin != path) {
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Writes its arguments into the output file and the name of the source into `calls`.
    const FAKE: &str = r#"#!/bin/sh
if [ "$1" = --list-gpu-arch ]; then
  printf 'compute_75\ncompute_80\ncompute_89\ncompute_90\n'
  exit
fi
for source; do :; done
echo "$source" >> ../calls
all=$*
while [ "$1" != -o ]; do shift; done
echo "$all" > "$2"
if grep -q wrong "$source"; then
  echo "$source(1): error: wrong"
  exit 1
fi
"#;

    struct Project {
        folder: tempfile::TempDir,
        nvcc: Nvcc,
    }

    impl Project {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["cuda/deep", "cuda/tests", "out"] {
                fs::create_dir_all(folder.path().join(name)).unwrap();
            }
            let program = folder.path().join("nvcc");
            // Written by another process: a file that this one has open for writing, as has any child that another test
            // forks meanwhile, can not be executed.
            let script = "printf %s \"$1\" > \"$0\" && chmod +x \"$0\"";
            assert!(
                Command::new("sh").args(["-c", script]).arg(&program).arg(FAKE).status().unwrap().success()
            );
            let project = Self { nvcc: Nvcc { program, version: "13.0.88".into() }, folder };
            for (name, text) in files {
                project.write(name, text);
            }
            project
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.folder.path().join("cuda").join(name), text).unwrap();
        }

        fn build_for(&self, archs: Option<&str>) -> Result<(), String> {
            let targets = Targets::choose(&self.nvcc, archs)?;
            let folder = self.folder.path().join("cuda");
            let mut sources = nvcc::sources(&folder)?;
            sources.extend(nvcc::sources(&folder.join("tests"))?);
            build(&self.nvcc, &folder, &sources, &self.out(), &targets, 2)
        }

        /// What a build compiles.
        fn compiled(&self) -> Vec<String> {
            self.build_for(None).unwrap();
            self.calls()
        }

        fn calls(&self) -> Vec<String> {
            let log = self.folder.path().join("calls");
            let calls = fs::read_to_string(&log).unwrap_or_default();
            fs::write(log, "").unwrap();
            let mut calls: Vec<_> = calls.lines().map(str::to_owned).collect();
            calls.sort();
            calls
        }

        fn out(&self) -> PathBuf {
            self.folder.path().join("out")
        }

        /// Name and content of each file that modules.rs embeds.
        fn embedded(&self) -> Vec<(String, String)> {
            let modules = fs::read_to_string(self.out().join("modules.rs")).unwrap();
            let quoted: Vec<_> = modules.split('"').skip(1).step_by(2).collect();
            quoted.chunks(2).map(|pair| (pair[0].to_owned(), fs::read_to_string(pair[1]).unwrap())).collect()
        }

        fn num_fatbins(&self) -> usize {
            let names = fs::read_dir(self.out()).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.to_string_lossy() != "modules.rs").count()
        }
    }

    #[test]
    fn only_what_changed_is_compiled_again() {
        let project = Project::new(&[
            ("a.cu", "// A.\n#include <cuda_bf16.h>\n # include \"one.cuh\"\n"),
            ("b.cu", "// B.\n#include \"gone.cuh\"\n"),
            ("one.cuh", "#pragma once\n#include \"deep/two.cuh\"\n"),
            ("deep/two.cuh", "#include \"three.cuh\"\n#include \"one.cuh\"\n"),
            ("deep/three.cuh", "#include \"four.cuh\"\n"),
            ("four.cuh", "int four;\n"),
            ("deep/c.cu", "// Not a kernel of ours.\n"),
            ("other.cuh", ""),
        ]);
        assert_eq!(project.compiled(), ["a.cu", "b.cu"]);
        assert_eq!(project.compiled(), [""; 0]);
        project.write("other.cuh", "int other;\n");
        assert_eq!(project.compiled(), [""; 0], "nobody includes it");
        project.write("four.cuh", "long four;\n");
        assert_eq!(project.compiled(), ["a.cu"], "a header of a header's header");
        project.write("b.cu", "// b.\n");
        assert_eq!(project.compiled(), ["b.cu"]);
        project.build_for(Some("90")).unwrap();
        assert_eq!(project.calls(), ["a.cu", "b.cu"], "other flags");
        let newer = Project { nvcc: Nvcc { version: "13.0.90".into(), ..project.nvcc }, ..project };
        newer.build_for(Some("90")).unwrap();
        assert_eq!(newer.calls(), ["a.cu", "b.cu"], "another compiler");
        assert_eq!(newer.num_fatbins(), 2, "old ones are removed");
    }

    #[test]
    fn every_module_is_embedded_by_its_name_with_code_for_all_it_asks_for() {
        let project = Project::new(&[("z.cu", "// Z.\n// nvcc: sm_90a\n"), ("a.cu", "// A.\n")]);
        project.build_for(None).unwrap();
        let codes = |args: &str| {
            let codes = args.split_whitespace().filter_map(|arg| arg.strip_prefix("-gencode=arch=compute_"));
            codes.map(str::to_owned).collect::<Vec<_>>()
        };
        let embedded = project.embedded();
        let [(a, a_args), (z, z_args)] = &embedded[..] else { unreachable!("two modules, not {embedded:?}") };
        assert_eq!((a.as_str(), z.as_str()), ("a", "z"));
        assert_eq!(codes(a_args), ["80,code=sm_80", "89,code=sm_89", "90,code=sm_90", "80,code=compute_80"]);
        assert_eq!(
            codes(z_args),
            ["80,code=sm_80", "89,code=sm_89", "90a,code=sm_90a", "80,code=compute_80"]
        );

        project.build_for(Some(" 90, 80")).unwrap();
        let codes_of = |idx: usize| codes(&project.embedded()[idx].1);
        assert_eq!(codes_of(0), ["90,code=sm_90", "80,code=sm_80"]);
        assert_eq!(codes_of(1), ["90a,code=sm_90a", "80,code=sm_80"]);
    }

    #[test]
    fn modules_are_in_the_order_of_their_names() {
        let names = ["m", "c", "z", "a", "y", "b", "x"];
        let files = names.map(|name| (format!("{name}.cu"), "// A file.\n"));
        let project = Project::new(&files.each_ref().map(|(name, text)| (name.as_str(), *text)));
        project.build_for(None).unwrap();
        let embedded: Vec<_> = project.embedded().into_iter().map(|(name, _)| name).collect();
        assert_eq!(embedded, ["a", "b", "c", "m", "x", "y", "z"]);
    }

    #[test]
    fn sources_may_be_in_folders() {
        let project =
            Project::new(&[("a.cu", "// A.\n"), ("tests/t.cu", "#include \"one.cuh\"\n"), ("one.cuh", "")]);
        assert_eq!(project.compiled(), ["a.cu", "tests/t.cu"]);
        project.write("one.cuh", "int one;\n");
        assert_eq!(project.compiled(), ["tests/t.cu"], "headers are found from the folder of all");
    }

    #[test]
    fn an_architecture_that_the_compiler_does_not_know_is_named() {
        let project = Project::new(&[]);
        let error = project.build_for(Some("90,100")).unwrap_err();
        assert!(error.contains("has 100") && error.contains("75, 80, 89, 90"), "{error}");
    }

    #[test]
    fn a_failed_file_is_told_and_compiled_again() {
        let project = Project::new(&[("a.cu", "wrong\n"), ("b.cu", "// B.\n")]);
        for expected in [vec!["a.cu", "b.cu"], vec!["a.cu"]] {
            let error = project.build_for(None).unwrap_err();
            assert!(error.contains("a.cu(1): error: wrong"), "{error}");
            assert_eq!(project.calls(), expected);
        }
        project.write("a.cu", "// A.\n");
        assert_eq!(project.compiled(), ["a.cu"]);
        assert_eq!(project.num_fatbins(), 2, "nothing of the failure is left");
    }
}
