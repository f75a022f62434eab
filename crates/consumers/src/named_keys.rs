//! Which consumer an API key means.

use std::collections::HashSet;

use vlinders_edge::{ApiKeys, key_lines};

use crate::consumer::{Consumer, Source};
use crate::error::ConsumersError;

/// API keys with the names of their consumers. Several keys may have one name, so that keys can be changed in turn.
#[derive(Debug, Clone)]
pub struct NamedKeys {
    keys: ApiKeys,
    /// In the order of `keys`.
    consumers: Vec<Consumer>,
}

// === impl NamedKeys ===

impl NamedKeys {
    /// Read keys from a text, one a line: `KEY` or `NAME KEY`; empty lines and lines that begin with `#` are skipped. A
    /// key without a name is the consumer `key-` with the first eight hexadecimal digits of its SHA-256.
    ///
    /// # Errors
    /// There is no key, a line has another form, or a key stands twice.
    pub fn parse(text: &str) -> Result<Self, ConsumersError> {
        let (mut lines, mut consumers, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for (number, line) in key_lines(text) {
            let words: Vec<_> = line.split_whitespace().collect();
            let (name, key) = match *words.as_slice() {
                [key] => (format!("key-{}", ApiKeys::fingerprint(key)), key),
                [name, key] => (name.to_owned(), key),
                _ => return Err(ConsumersError::KeyLine(number)),
            };
            if !seen.insert(key) {
                return Err(ConsumersError::RepeatedKey(number));
            }
            consumers.push(Consumer::new(&name, Source::Key).ok_or(ConsumersError::KeyLine(number))?);
            lines.push((number, key));
        }
        Ok(Self { keys: ApiKeys::from_lines(lines.into_iter())?, consumers })
    }

    /// The consumer with this key, compared with all keys in constant time.
    #[must_use]
    pub fn consumer(&self, key: &str) -> Option<Consumer> {
        self.consumers.get(self.keys.position(key)?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(keys: &NamedKeys, key: &str) -> Option<String> {
        keys.consumer(key).map(|consumer| consumer.id().to_owned())
    }

    #[test]
    fn keys_mean_their_consumers() {
        let keys = NamedKeys::parse("# keys\nblue sk-blue-1\nblue   sk-blue-2\nred\tsk-red\nsk-one\n")
            .expect("keys");
        assert_eq!(name(&keys, "sk-blue-1").as_deref(), Some("blue"));
        assert_eq!(name(&keys, "sk-blue-2").as_deref(), Some("blue"));
        assert_eq!(name(&keys, "sk-red").as_deref(), Some("red"));
        assert_eq!(name(&keys, "sk-one").as_deref(), Some("key-456f1612"));
        for wrong in ["", "blue", "sk-blue", "sk-blue-11", "blue sk-blue-1", "# keys"] {
            assert_eq!(name(&keys, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lines_of_other_forms_are_refused_without_their_text() {
        let cases = [
            ("", "the list of API keys is empty"),
            ("a sk-1\nb sk-1", "line 2 of the API keys repeats"),
            ("a b sk-1", "line 1 of the API keys must be"),
            ("anonymous sk-1", "line 1 of the API keys must be"),
            ("a sk-\u{e4}1", "line 1 of the API keys has characters"),
        ];
        for (text, expected) in cases {
            let error = NamedKeys::parse(text).expect_err("refused").to_string();
            assert!(error.starts_with(expected) && !error.contains("sk-"), "{error}");
        }
    }

    #[test]
    fn keys_do_not_show_in_debug_output() {
        let shown = format!("{:?}", NamedKeys::parse("blue sk-secret").expect("a key"));
        assert!(!shown.contains("sk-secret") && shown.contains("blue"), "{shown}");
    }
}
