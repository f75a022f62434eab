//! Patterns of file names: `*` is anything inside one folder, `**` also across folders, `?` is one character.

/// Whether the whole of `path` has the form of `pattern`.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<char>, Vec<char>) = (pattern.chars().collect(), path.chars().collect());
    // Which beginnings of the path fit the beginning of the pattern.
    let mut fits = vec![false; path.len() + 1];
    fits[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        let is_star = pattern[at] == '*';
        let crosses = is_star && pattern.get(at + 1) == Some(&'*');
        let mut next = vec![false; path.len() + 1];
        for end in 0..=path.len() {
            let before = end.checked_sub(1);
            next[end] = if is_star {
                fits[end] || before.is_some_and(|before| next[before] && (crosses || path[before] != '/'))
            } else {
                before.is_some_and(|before| {
                    let fits_one =
                        if pattern[at] == '?' { path[before] != '/' } else { path[before] == pattern[at] };
                    fits[before] && fits_one
                })
            };
        }
        fits = next;
        at += if crosses { 2 } else { 1 };
    }
    fits[path.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_inside_a_folder_and_two_do_not() {
        for (pattern, path) in [
            ("*.json", "config.json"),
            ("model-?.gguf", "model-1.gguf"),
            ("**/*.json", "a/b/c.json"),
            ("a/*/c", "a/b/c"),
            ("**", "a/b"),
            ("*", ""),
            ("a*b*c", "aXbYbZc"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*.json", "a/config.json"),
            ("*.json", "config.jsonl"),
            ("?", "/"),
            ("config", "config.json"),
            ("a/*/c", "a/b/d/c"),
            ("", "a"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }
}
