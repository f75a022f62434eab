//! From YAML text to raw values: turns the parser's errors into problems that name a line, a field and a remedy.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Location, Spanned};

use super::problem::{ConfigError, Place, Problem};

/// A configuration file while it is being read: knows its name and text, so that problems can show a line of it.
pub(super) struct Source<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// Parse the whole text.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
        serde_saphyr::from_str_with_options(self.text, options).map_err(|error| self.explain(&error).into())
    }

    /// A problem with a value that parsed.
    pub(super) fn problem<T>(
        &self,
        at: &Spanned<T>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Problem {
        let place = self.place(at.referenced);
        Problem {
            field: self.field_at(&place),
            place: Some(place),
            found: found.into(),
            remedy: remedy.into(),
        }
    }

    fn explain(&self, error: &Error) -> Problem {
        let place = self.place(error.location().unwrap_or(Location::UNKNOWN));
        let found_text = value_at(&place);
        let field = self.field_at(&place);
        let (field, found, remedy) = match error {
            Error::SerdeUnknownField { field, expected, .. } => {
                (Some(field.clone()), "unknown field".to_owned(), suggest(field, expected))
            }
            Error::SerdeMissingField { field, .. } => {
                let remedy = format!("add a line `{field}: …`");
                (Some((*field).to_owned()), "this field is missing".to_owned(), remedy)
            }
            Error::DuplicateMappingKey { key, .. } => {
                (key.clone().or(field), "this field is given twice".to_owned(), "keep one of them".to_owned())
            }
            Error::InvalidScalar { ty, .. } => {
                (field, format!("found {found_text}"), format!("write {}", expected_form(ty)))
            }
            Error::InvalidBooleanStrict { .. } => {
                (field, format!("found {found_text}"), "write true or false".to_owned())
            }
            Error::SerdeInvalidType { unexpected, expected, .. }
            | Error::SerdeInvalidValue { unexpected, expected, .. } => {
                (field, format!("found {unexpected}"), format!("write {}", expected_form(expected)))
            }
            Error::Unexpected { expected, .. } => {
                (field, format!("found {found_text}"), format!("write {}", expected_form(expected)))
            }
            Error::NullIntoString { .. } => (
                field,
                "found no value".to_owned(),
                "write a value after the colon, or remove the line".to_owned(),
            ),
            Error::Eof { .. } => (
                None,
                "the file is empty".to_owned(),
                "see models.yaml and server.yaml of the project".to_owned(),
            ),
            Error::MultipleDocuments { .. } => (
                None,
                "a second document begins here".to_owned(),
                "remove the line `---` and what follows".to_owned(),
            ),
            other => {
                let text = other.without_snippet().to_string();
                let text = text.split(" at line ").next().unwrap_or_default().to_owned();
                let remedy = "mind indentation (spaces, no tabs), a space after each colon, and quotes around text \
                              with special characters";
                (None, format!("not valid YAML: {text}"), remedy.to_owned())
            }
        };
        Problem { place: Some(place), field, found, remedy }
    }

    fn place(&self, location: Location) -> Place {
        let line = usize::try_from(location.line()).unwrap_or(0);
        let column = usize::try_from(location.column()).unwrap_or(0);
        let text = self.text.lines().nth(line.wrapping_sub(1)).unwrap_or_default();
        Place { file: self.file.to_owned(), line, column, text: text.to_owned() }
    }

    /// The key before a value on its line, or on the nearest less indented line above.
    fn field_at(&self, place: &Place) -> Option<String> {
        let before: String = place.text.chars().take(place.column.saturating_sub(1)).collect();
        if let Some(key) = last_key(&before) {
            return Some(key);
        }
        let above = self.text.lines().take(place.line.saturating_sub(1)).collect::<Vec<_>>();
        let indent = before.chars().take_while(|c| *c == ' ').count();
        let parent = above.iter().rev().find(|line| {
            let start = line.chars().take_while(|c| *c == ' ').count();
            start <= indent && line.trim_end().ends_with(':') && !line.trim_start().starts_with('#')
        })?;
        last_key(parent)
    }
}

/// `- name: ` gives `name`; `server: { port: ` gives `port`.
fn last_key(before: &str) -> Option<String> {
    let (keys, _) = before.rsplit_once(':')?;
    let key = keys.rsplit([' ', '{', ',', '-', '\t']).next().unwrap_or(keys);
    let key = key.trim_matches(['"', '\'']);
    (!key.is_empty()).then(|| key.to_owned())
}

/// The value that begins at a place, as it is written there.
fn value_at(place: &Place) -> String {
    let rest: String = place.text.chars().skip(place.column.saturating_sub(1)).collect();
    let rest = rest.split(" #").next().unwrap_or_default().trim();
    match rest.chars().next() {
        None => "nothing".to_owned(),
        Some('[') => "a list".to_owned(),
        Some('{') => "a group of fields".to_owned(),
        Some('-') if rest.starts_with("- ") => "a list".to_owned(),
        Some(_) => format!("`{}`", rest.trim_end_matches([',', '}', ']', ' '])),
    }
}

fn expected_form(expected: &str) -> &str {
    match expected {
        "bool" | "boolean" | "a boolean" => "true or false",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "string" | "a string" | "string scalar" => "text",
        "mapping start" | "mapping" => "fields, one a line, indented below this one, each as `name: value`",
        "sequence start" | "sequence" | "a sequence" => "a list: lines that begin with `- `",
        "scalar" => "a single value",
        other => other,
    }
}

/// The nearest of the known names, and all of them.
pub(super) fn suggest(wrong: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|name| (remoteness(wrong, name), name)).min();
    let all = known.join(", ");
    match nearest {
        Some((distance, name)) if distance <= 2.max(wrong.len() / 3) => {
            format!("did you mean `{name}`? Known here: {all}")
        }
        _ => format!("known here: {all}"),
    }
}

/// How unlikely it is that `name` was meant. A name that lacks words of the right one, `max_len` for
/// `max_model_len`, is as near as one that differs by a letter for each.
fn remoteness(wrong: &str, name: &str) -> usize {
    let mut words = name.split('_');
    let is_abridged = wrong.len() > 2 && wrong.split('_').all(|word| words.any(|known| known == word));
    if is_abridged { name.matches('_').count() - wrong.matches('_').count() } else { distance(wrong, name) }
}

/// Levenshtein distance in characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("max_model_len", "max_model_len"), 0);
    }

    #[test]
    fn a_near_name_is_offered_and_a_far_one_is_not() {
        let known = ["max_model_len", "max_num_seqs"];
        assert!(suggest("max_model_length", &known).starts_with("did you mean `max_model_len`?"));
        assert!(suggest("max_len", &known).starts_with("did you mean `max_model_len`?"));
        assert!(suggest("len_max", &known).starts_with("known here"));
        assert!(suggest("colour", &known).starts_with("known here"));
    }

    #[test]
    fn keys_before_a_value() {
        assert_eq!(last_key("  - name: ").as_deref(), Some("name"));
        assert_eq!(last_key("server: { host: a, port: ").as_deref(), Some("port"));
        assert_eq!(last_key("    "), None);
    }
}
