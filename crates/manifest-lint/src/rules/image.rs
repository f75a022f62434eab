//! Images are pinned, and none is known to be too old.

use super::Rule;
use crate::finding::Report;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "image",
    explains: "images have a digest or a tag of at least two numbers, and are not older than what the platform needs",
    check,
};

/// The oldest version that has what we configure.
const OLDEST: &[(&str, [u32; 2], &str)] = &[
    ("kong", [3, 9], "kong.yml is written for 3.9"),
    ("prometheus", [2, 53], "older ones get no more fixes"),
];

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        for container in pod.containers() {
            if let Some((what, remedy)) = wrong(container.image()) {
                report.at(
                    pod.object,
                    format!("{} runs `{}`: {what}", container.name(), container.image()),
                    remedy,
                );
            }
        }
    }
}

fn wrong(image: &str) -> Option<(String, &'static str)> {
    let (reference, digest) =
        image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let (path, last) = reference.rsplit_once('/').unwrap_or(("", reference));
    let (name, tag) = last.split_once(':').unwrap_or((last, ""));
    let numbers = numbers(tag);
    if digest.is_none() && numbers.len() < 2 {
        let tag = if tag.is_empty() { "no tag" } else { "a tag that moves" };
        return Some((tag.to_owned(), "pin it, as name:1.2.3"));
    }
    let official = path.is_empty() || path.ends_with("library") || path.ends_with("prom");
    let (_, oldest, why) = OLDEST.iter().find(|(known, _, _)| *known == name && official)?;
    let old = !numbers.is_empty() && numbers.as_slice() < oldest.as_slice();
    old.then(|| (format!("too old, {}.{} is needed", oldest[0], oldest[1]), *why))
}

/// `v2.48.0-alpine` → 2, 48, 0.
fn numbers(tag: &str) -> Vec<u32> {
    let version = tag.trim_start_matches('v').split(['-', '_', '+']).next().unwrap_or_default();
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    #[test]
    fn tags_that_move_are_found() {
        for image in ["kong", "redis:latest", "postgres:17-alpine", "host:5000/a/b"] {
            assert!(wrong(image).is_some(), "{image}");
        }
        let digest = "redis@sha256:0000000000000000000000000000000000000000000000000000000000000000";
        for image in
            ["kong:3.9.1", "postgres:17.5-alpine", "prom/prometheus:v3.4.1", "a/vlinders:0.1.0-gpu", digest]
        {
            assert_eq!(wrong(image), None, "{image}");
        }
    }

    #[test]
    fn old_versions_are_found() {
        let pod = |image: &str| deployment(&format!("containers:\n- {{name: c, image: '{image}'}}"));
        assert_eq!(
            found(&RULE, &pod("kong:3.5.0")),
            ["Deployment a/d: c runs `kong:3.5.0`: too old, 3.9 is needed"]
        );
        assert_eq!(found(&RULE, &pod("kong:3.10.0")), [""; 0]);
    }
}
