//! Which nvcc compiles the kernels, which files it gets, and when its output is out of date.
//!
//! The build script and `cargo xtask cuda` share this file, so that what is checked is what is built; its tests run
//! with those of xtask.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

/// What to do when there is no nvcc.
pub(crate) const MISSING: &str = "no nvcc in CUDA_HOME, target/cuda, PATH or /usr/local/cuda: run \
    scripts/cuda-toolchain.sh, which sets one up";
/// Variables that change what is compiled, or by whom.
pub(crate) const ENVIRONMENT: [&str; 5] =
    ["CUDA_HOME", "VLINDERS_CUDA_ARCHS", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "NVCC_CCBIN"];
/// Flags of every compilation; nvcc runs in the folder of the sources.
pub(crate) const FLAGS: [&str; 3] = ["-std=c++17", "-O3", "-I."];
/// The first version that knows all architectures we build for.
const OLDEST: (u32, u32) = (12, 8);
/// In one of the first lines of a file: `// nvcc: sm_90a` compiles it for sm_90a wherever sm_90 is asked for.
const MARKER: &str = "// nvcc:";
const MARKER_LINES: usize = 10;

/// A compiler that is new enough.
pub(crate) struct Nvcc {
    pub(crate) program: PathBuf,
    /// `13.0.88`
    pub(crate) version: String,
}

impl Nvcc {
    /// Look in `CUDA_HOME` alone where that is set, else in the workspace, on the `PATH`, and where the toolkit's
    /// installer puts it. `None`: there is none.
    ///
    /// # Errors
    /// It is too old or does not run, or `CUDA_HOME` has none.
    pub(crate) fn find(workspace: &Path) -> Result<Option<Self>, String> {
        let Some(program) = locate(workspace, |name| env::var_os(name))? else { return Ok(None) };
        let nvcc = Self { version: String::new(), program };
        let said = run(nvcc.command().arg("--version"))?;
        let version = version(&said)
            .and_then(accept)
            .map_err(|error| format!("{}: {error}", nvcc.program.display()))?;
        Ok(Some(Self { version, ..nvcc }))
    }

    /// A call of it.
    pub(crate) fn command(&self) -> Command {
        Command::new(&self.program)
    }

    /// A name for its output from `source` with `args` that is another one when the output may be another: the file, the
    /// headers it includes (as far as they are in `folder`), the arguments, the environment and the compiler count.
    ///
    /// # Errors
    /// A file that can not be read.
    pub(crate) fn fingerprint(
        &self,
        folder: &Path,
        source: &Path,
        args: &[String],
    ) -> Result<String, String> {
        let mut hasher = DefaultHasher::new();
        (&self.version, args, ENVIRONMENT.map(env::var_os)).hash(&mut hasher);
        let mut seen = BTreeSet::new();
        let mut open = vec![source.to_path_buf()];
        while let Some(file) = open.pop() {
            if seen.insert(file.clone()) {
                let text = read(&file)?;
                (file.strip_prefix(folder).unwrap_or(&file), &text).hash(&mut hasher);
                open.extend(included(folder, &file, &text));
            }
        }
        Ok(format!("{:016x}", hasher.finish()))
    }
}

/// Run `command`: what it says.
///
/// # Errors
/// It can not be started, or fails; then with all that it said.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| format!("cannot start {shown}: {error}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(format!("{shown} ended with {}\n{said}", output.status))
    }
}

/// The `.cu` files of `folder` by name; folders in it are somebody else's.
///
/// # Errors
/// The folder can not be read.
pub(crate) fn sources(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("cannot list {}: {error}", folder.display());
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ending| ending == "cu") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

/// The name of a source without folder and ending.
pub(crate) fn stem(source: &Path) -> String {
    source.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// `arch` (`90`), or its specific form (`90a`) when the file asks for that.
///
/// # Errors
/// The file can not be read, or its marker is not understood.
pub(crate) fn arch_of(source: &Path, arch: &str) -> Result<String, String> {
    let text = read(source)?;
    let marked = text.lines().take(MARKER_LINES).find_map(|line| line.strip_prefix(MARKER));
    for name in marked.unwrap_or_default().split_whitespace() {
        let base = name.strip_prefix("sm_").and_then(|name| name.strip_suffix('a'));
        match base.filter(|base| base.parse::<u32>().is_ok()) {
            Some(base) if base == arch => return Ok(format!("{base}a")),
            Some(_) => {}
            None => {
                return Err(format!("{}: `{MARKER}` knows names like sm_90a, not {name}", source.display()));
            }
        }
    }
    Ok(arch.to_owned())
}

/// `work` on each of `items`, `jobs` at a time; answers in the order of the items.
///
/// # Errors
/// All that failed.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R, String> + Sync,
) -> Result<Vec<R>, String> {
    let next = AtomicUsize::new(0);
    let mut done: Vec<(usize, Result<R, String>)> = Vec::new();
    thread::scope(|scope| {
        let take = || {
            let mut mine = Vec::new();
            loop {
                let idx = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(idx) else { return mine };
                mine.push((idx, work(item)));
            }
        };
        let threads: Vec<_> = (0..jobs.clamp(1, items.len().max(1))).map(|_| scope.spawn(take)).collect();
        for thread in threads {
            match thread.join() {
                Ok(mine) => done.extend(mine),
                Err(payload) => std::panic::resume_unwind(payload),
            }
        }
    });
    done.sort_by_key(|(idx, _)| *idx);
    let mut answers = Vec::new();
    let mut errors = Vec::new();
    for (_, outcome) in done {
        match outcome {
            Ok(answer) => answers.push(answer),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(answers) } else { Err(errors.join("\n")) }
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

fn locate(workspace: &Path, env: impl Fn(&str) -> Option<OsString>) -> Result<Option<PathBuf>, String> {
    if let Some(home) = env("CUDA_HOME").filter(|home| !home.is_empty()) {
        let program = Path::new(&home).join("bin").join("nvcc");
        if !program.is_file() {
            return Err(format!("CUDA_HOME is set, and {} does not exist", program.display()));
        }
        return Ok(Some(program));
    }
    let path = env("PATH").unwrap_or_default();
    let mut folders = vec![workspace.join("target").join("cuda").join("bin")];
    folders.extend(env::split_paths(&path));
    folders.push(PathBuf::from("/usr/local/cuda/bin"));
    Ok(folders.into_iter().map(|folder| folder.join("nvcc")).find(|program| program.is_file()))
}

/// `13.0.88` in what `nvcc --version` says.
fn version(said: &str) -> Result<&str, String> {
    let word = said.split_whitespace().find_map(|word| word.strip_prefix('V'));
    word.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .ok_or_else(|| format!("no version in what nvcc says: {said}"))
}

fn accept(version: &str) -> Result<String, String> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else {
        return Err(format!("the version {version} is not understood"));
    };
    if (major, minor) < OLDEST {
        let (major, minor) = OLDEST;
        return Err(format!(
            "nvcc {version} is too old, the kernels need {major}.{minor} or newer: scripts/cuda-toolchain.sh sets one up"
        ));
    }
    Ok(version.to_owned())
}

/// Headers that `text`, the content of `file`, includes by `"…"` and that exist.
fn included(folder: &Path, file: &Path, text: &str) -> Vec<PathBuf> {
    let beside = file.parent().unwrap_or(folder);
    let mut found = Vec::new();
    for line in text.lines() {
        let directive = line.trim_start().strip_prefix('#').map(str::trim_start);
        let rest = directive.and_then(|directive| directive.strip_prefix("include")).map(str::trim_start);
        let name = rest.and_then(|rest| rest.strip_prefix('"')).and_then(|rest| rest.split('"').next());
        if let Some(name) = name {
            found.extend([beside.join(name), folder.join(name)].into_iter().find(|path| path.is_file()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn the_version_is_read_and_must_be_new_enough() {
        let said = "nvcc: NVIDIA (R) Cuda compiler driver\nCopyright (c) 2005-2025 NVIDIA Corporation\n\
            Cuda compilation tools, release 13.0, V13.0.88\nBuild cuda_13.0.r13.0/compiler.36424714_0\n";
        assert_eq!(version(said), Ok("13.0.88"));
        assert!(version("gcc (Debian 12.2.0-14) 12.2.0").is_err());
        assert!(version("nvcc: NVIDIA (R) Cuda compiler driver, Version unknown").is_err());
        for new_enough in ["12.8.61", "12.10.1", "13.0.88", "14.1"] {
            assert_eq!(accept(new_enough), Ok(new_enough.to_owned()));
        }
        for too_old in ["12.7.99", "11.8.89", "9.0.1"] {
            assert!(accept(too_old).unwrap_err().contains("too old"), "{too_old}");
        }
        assert!(accept("13").is_err());
    }

    #[test]
    fn cuda_home_comes_first_then_the_workspace_then_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let locate_with = |variables: &[(&str, PathBuf)]| {
            let variables: BTreeMap<_, _> = variables.iter().cloned().collect();
            locate(&at("workspace"), |name| variables.get(name).map(|path| path.clone().into_os_string()))
        };
        for name in ["home/bin", "workspace/target/cuda/bin", "path"] {
            fs::create_dir_all(at(name)).unwrap();
            fs::write(at(name).join("nvcc"), "").unwrap();
        }
        let all = [("CUDA_HOME", at("home")), ("PATH", at("path"))];
        assert_eq!(locate_with(&all), Ok(Some(at("home/bin/nvcc"))));
        assert_eq!(locate_with(&all[1..]), Ok(Some(at("workspace/target/cuda/bin/nvcc"))));
        assert_eq!(
            locate_with(&[("CUDA_HOME", PathBuf::new()), all[1].clone()]),
            Ok(Some(at("workspace/target/cuda/bin/nvcc"))),
            "empty is not set"
        );
        fs::remove_file(at("workspace/target/cuda/bin/nvcc")).unwrap();
        assert_eq!(locate_with(&all[1..]), Ok(Some(at("path/nvcc"))));
        fs::remove_file(at("home/bin/nvcc")).unwrap();
        assert!(locate_with(&all).is_err(), "what is named is not replaced by another one");
    }

    #[test]
    fn a_file_says_in_its_first_lines_that_it_needs_a_specific_architecture() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("a.cu");
        let arch_with = |text: String, arch: &str| {
            fs::write(&source, text).unwrap();
            arch_of(&source, arch)
        };
        assert_eq!(arch_with("// A.\n".into(), "90"), Ok("90".into()));
        assert_eq!(arch_with("// A.\n// nvcc: sm_90a\n".into(), "90"), Ok("90a".into()));
        assert_eq!(arch_with("// A.\n// nvcc: sm_90a sm_100a\n".into(), "100"), Ok("100a".into()));
        assert_eq!(arch_with("// A.\n// nvcc: sm_90a\n".into(), "80"), Ok("80".into()));
        assert_eq!(arch_with("\n".repeat(MARKER_LINES) + "// nvcc: sm_90a\n", "90"), Ok("90".into()));
        for wrong in ["sm_90", "90a", "sm_a", "-use_fast_math"] {
            assert!(arch_with(format!("// nvcc: {wrong}\n"), "90").is_err(), "{wrong}");
        }
    }

    #[test]
    fn answers_keep_the_order_and_every_failure_is_told() {
        let work = |item: &usize| if item % 4 == 3 { Err(format!("{item} failed")) } else { Ok(item * 2) };
        for jobs in [0, 1, 3, 100] {
            assert_eq!(in_parallel(jobs, &[0, 1, 2, 4, 5, 6], work), Ok(vec![0, 2, 4, 8, 10, 12]));
            assert_eq!(in_parallel(jobs, &[0, 3, 1, 7], work), Err("3 failed\n7 failed".to_owned()));
            assert_eq!(in_parallel(jobs, &[], work), Ok(vec![]));
        }
    }

    #[test]
    fn who_is_done_first_does_not_matter() {
        // One thread does 0 and 2, the other meanwhile 1.
        let both_began = Barrier::new(2);
        let two_is_done = Barrier::new(2);
        let work = |item: &usize| {
            match item {
                0 => _ = both_began.wait(),
                1 => _ = (both_began.wait(), two_is_done.wait()),
                _ => _ = two_is_done.wait(),
            }
            Ok(*item)
        };
        assert_eq!(in_parallel(2, &[0, 1, 2], work), Ok(vec![0, 1, 2]));
    }
}
