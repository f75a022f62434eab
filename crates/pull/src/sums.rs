//! SHA256SUMS, as `sha256sum` writes it.

use crate::digest::is_hex;

/// What such a file is called.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// Names with their digests, in the order of the file.
///
/// # Errors
/// The first line that is none, by number.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut sums = Vec::new();
    for (idx, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (digest, name) = line.split_once(' ').unwrap_or((line, ""));
        // A second space, or a star for files read as bytes.
        let name = name.strip_prefix([' ', '*']).unwrap_or(name).trim_end();
        if !is_hex(digest, 64) || name.is_empty() {
            return Err(format!("line {} is not `DIGEST  FILE`, as sha256sum writes it", idx + 1));
        }
        let name = name.strip_prefix("./").unwrap_or(name);
        sums.push((name.to_owned(), digest.to_ascii_lowercase()));
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sha256sum_writes_is_read() {
        let (a, b) = ("a".repeat(64), "B".repeat(64));
        let text = format!("{a}  config.json\n{b} *./sub/a b.safetensors\n\n");
        let read = parse(&text).unwrap();
        assert_eq!(
            read,
            [("config.json".to_owned(), a.clone()), ("sub/a b.safetensors".to_owned(), "b".repeat(64))]
        );
        assert!(parse(&format!("{a}\n")).is_err() && parse("<html>\n").unwrap_err().starts_with("line 1"));
    }
}
