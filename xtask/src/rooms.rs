//! What may stand in which room: `unsafe`, CUDA, the environment, and knowledge of the HTTP API.

use crate::sources::Source;

/// Rooms that may hold `unsafe` code.
const UNSAFE: &[&str] = &["kernels", "comm", "device"];
/// Rooms that may depend on the `cuda` feature.
const CUDA: &[&str] = &["kernels", "comm", "device"];
/// Rooms that must not know the HTTP API they are served through.
const API_BLIND: &[&str] = &["engine", "text", "runner", "models", "layers", "kernels", "comm", "device"];
/// This checker names what it looks for.
const CHECKER: &str = "xtask";

/// One line for each finding.
pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    sources.iter().flat_map(findings).collect()
}

fn findings(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let path = &source.path;
    if !source.text.starts_with("//!") {
        found.push(format!("{path}:1: the first line must be `//!` and say what the file decides"));
    }
    if source.room() == CHECKER {
        return found;
    }
    for (line, code) in source.code_lines() {
        if holds_word(code, "unsafe") && !UNSAFE.contains(&source.room()) {
            found.push(format!("{path}:{line}: `unsafe` belongs in {}", UNSAFE.join(", ")));
        }
        if code.contains("feature = \"cuda\"") && !CUDA.contains(&source.room()) {
            found.push(format!("{path}:{line}: `cfg(feature = \"cuda\")` belongs in {}", CUDA.join(", ")));
        }
        if code.contains("env::var") && source.room() != "cli" && !is_test(path) && !is_build(path) {
            found.push(format!("{path}:{line}: the environment is read in cli alone"));
        }
    }
    if API_BLIND.contains(&source.room())
        && let Some(idx) = source.text.lines().position(|line| line.to_lowercase().contains("openai"))
    {
        let line = idx + 1;
        found.push(format!("{path}:{line}: only api, edge, server, head and cli know the HTTP API"));
    }
    found
}

fn is_test(path: &str) -> bool {
    let names = ["/tests.rs", "/test_device.rs"];
    path.contains("/tests/") || path.contains("/benches/") || names.iter().any(|name| path.ends_with(name))
}

/// Build scripts get all they know from the environment.
fn is_build(path: &str) -> bool {
    path.split('/').nth(2).is_some_and(|part| part == "build.rs" || part == "build")
}

/// `word` stands in `code` by itself, not as part of another identifier or inside a string.
fn holds_word(code: &str, word: &str) -> bool {
    let outside_strings: String = code.split('"').step_by(2).collect::<Vec<_>>().join("\"");
    outside_strings.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(path: &str, text: &str) -> Vec<String> {
        check(&[Source { path: path.to_owned(), text: text.to_owned() }])
    }

    #[test]
    fn unsafe_outside_its_room_is_found_and_inside_it_is_not() {
        let text = "//! Something.\nfn f() { unsafe { g() } }\n";
        assert_eq!(
            check_one("crates/engine/src/a.rs", text),
            ["crates/engine/src/a.rs:2: `unsafe` belongs in kernels, comm, device"]
        );
        assert!(check_one("crates/kernels/src/a.rs", text).is_empty());
    }

    #[test]
    fn words_in_prose_strings_and_longer_names_are_no_findings() {
        let text = "//! Not unsafe.\n// unsafe\nlet s = \"unsafe\"; #[deny(unsafe_code)]\n";
        assert!(check_one("crates/engine/src/a.rs", text).is_empty());
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(check_one("crates/text/src/a.rs", "use std::fmt;\n").len(), 1);
    }

    #[test]
    fn cuda_and_environment_stay_in_their_rooms() {
        let text = "//! X.\n#[cfg(feature = \"cuda\")]\nlet a = std::env::var(\"A\");\n";
        assert_eq!(check_one("crates/layers/src/a.rs", text).len(), 2);
        assert_eq!(check_one("crates/kernels/src/a.rs", text).len(), 1);
        assert_eq!(check_one("crates/cli/src/a.rs", text).len(), 1);
        assert!(check_one("crates/kernels/build/a.rs", text).is_empty());
    }

    #[test]
    fn the_engine_does_not_know_the_http_api() {
        assert_eq!(check_one("crates/engine/src/a.rs", "//! As OpenAI does it.\n").len(), 1);
        assert!(check_one("crates/api/src/a.rs", "//! As OpenAI does it.\n").is_empty());
    }
}
