//! Which series a PromQL query reads. Not a parser: promtool judges syntax, this finds names and the labels they are chosen by.

/// A series in a query, with the labels in its braces.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) labels: Vec<String>,
}

/// Words that are no series, and those of them that a list of labels follows.
const WORDS: &[&str] = &["and", "or", "unless", "bool", "offset", "atan2", "inf", "nan", "start", "end"];
const LISTS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];

/// All series of `query`, in order.
pub(super) fn series(query: &str) -> Vec<Series> {
    let mut found: Vec<Series> = Vec::new();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        if is_name_start(first) {
            let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
            let (name, tail) = rest.split_at(end);
            let next = tail.trim_start();
            rest = if LISTS.contains(&name) && next.starts_with('(') {
                after(next, ')')
            } else if is_no_series(name, next) {
                tail
            } else {
                let (labels, tail) = braces(next);
                found.push(Series { name: name.to_owned(), labels });
                tail
            };
        } else if first.is_ascii_digit() {
            // A number with its unit or exponent.
            rest = rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '.');
        } else if first == '[' {
            rest = after(rest, ']');
        } else if matches!(first, '"' | '\'' | '`') {
            rest = after(&rest[1..], first);
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    found
}

/// A word of the language, a function, or an aggregation such as `sum by (…)`.
fn is_no_series(name: &str, next: &str) -> bool {
    let end = next.find(|c: char| !is_name(c)).unwrap_or(next.len());
    WORDS.contains(&name.to_lowercase().as_str())
        || LISTS.contains(&name)
        || next.starts_with('(')
        || matches!(&next[..end], "by" | "without")
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == ':'
}

fn is_name(c: char) -> bool {
    is_name_start(c) || c.is_ascii_digit()
}

fn after(text: &str, end: char) -> &str {
    text.find(end).map_or("", |at| &text[at + end.len_utf8()..])
}

/// The labels in `{a="b", c=~"d"}` at the front, and what is behind it.
fn braces(text: &str) -> (Vec<String>, &str) {
    let Some(mut rest) = text.strip_prefix('{') else {
        return (Vec::new(), text);
    };
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ', '\n']);
        let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        let (name, tail) = rest.split_at(end);
        if name.is_empty() {
            return (labels, after(rest, '}'));
        }
        labels.push(name.to_owned());
        rest = after(after(tail, '"'), '"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(query: &str) -> Vec<String> {
        series(query).into_iter().map(|series| format!("{}{:?}", series.name, series.labels)).collect()
    }

    #[test]
    fn series_and_their_labels_are_found() {
        assert_eq!(
            names("sum(a_b{model_name=\"x{y}\", job=~\"z\"}) + sum by (pod) (rate(c:d[5m])) or vector(0)"),
            ["a_b[\"model_name\", \"job\"]", "c:d[]"]
        );
        assert_eq!(names("max without (a, b) (m) > bool 0.8e1"), ["m[]"]);
        assert_eq!(names("a * on (x) group_left (y) b offset 5m"), ["a[]", "b[]"]);
        assert_eq!(names("label_replace(m, \"a\", \"$1\", 'b', `c`)"), ["m[]"]);
    }
}
