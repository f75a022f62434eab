//! The list of exported series is what the code exports.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use vlinders_manifest_lint::exported_metrics;

/// Names that begin as ours do, and are no series.
const OTHERS: &[&str] = &["vlinders_version", "vlinders_migrations"];

#[test]
fn the_list_is_what_the_code_exports() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeSet::new();
    for room in ["consumers", "edge", "head", "ledger", "server"] {
        collect(&crates.join(room).join("src"), &mut found);
    }
    found.retain(|name| !OTHERS.contains(&name.as_str()));
    let listed: BTreeSet<_> = exported_metrics().into_iter().map(str::to_owned).collect();
    assert_eq!(found, listed);
}

/// String literals of that form in all files but those of tests.
fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            collect(&path, found);
        } else if name.ends_with(".rs") && !name.starts_with("test") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let literals = code.split('"').skip(1).step_by(2);
            let ours = literals
                .filter(|literal| ["vlinders_", "vllm:"].iter().any(|start| literal.starts_with(start)));
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c);
            found.extend(ours.filter(|literal| literal.chars().all(plain)).map(str::to_owned));
        }
    }
}
