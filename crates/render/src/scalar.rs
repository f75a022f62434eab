//! Text as a YAML scalar: plain where that can mean nothing else, else in double quotes.

use std::fmt::Write as _;

/// Plain words that readers of YAML 1.1 take for something else than text.
const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];

/// A scalar that is read as this text, also in a list on one line.
pub(crate) fn scalar(text: &str) -> String {
    let begins = text.strip_prefix("--").unwrap_or(text);
    let is_plain = begins.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c))
        && !WORDS.contains(&text.to_lowercase().as_str());
    if is_plain { text.to_owned() } else { format!("\"{}\"", escaped(text)) }
}

/// Inside double quotes, of YAML and of a label value in a query alike.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{2028}' | '\u{2029}' | '\u{85}' | '\u{feff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_written_is_read_again() {
        for text in [
            "llama-3-8b",
            "true",
            "8",
            "NO",
            "a: b",
            "a #b",
            "[a",
            "say \"hi\" \\ there",
            "-x",
            "ü",
            "",
            "~",
            "1e3",
        ] {
            let list = format!("[{}]", scalar(text));
            assert_eq!(serde_saphyr::from_str::<Vec<String>>(&list).unwrap(), [text], "{list}");
        }
        assert_eq!(scalar("/etc/a.yaml"), "/etc/a.yaml");
        assert_eq!(scalar("true"), "\"true\"");
        assert_eq!(scalar("8"), "\"8\"");
    }
}
