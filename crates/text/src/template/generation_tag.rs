//! Replaces `{% generation %}` blocks, which mark an assistant's words for training, by blocks that do nothing.

/// The source with `generation` and `endgeneration` turned into `with` and `endwith`, which have the same
/// scope and leave whitespace control as it was; and with the line ends that Jinja2 sees.
pub(super) fn replace(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    if !source.contains("generation") {
        return source;
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(begin) = rest.find('{') {
        let (before, tag) = rest.split_at(begin);
        out.push_str(before);
        let (length, replacement) = match tag.as_bytes().get(1) {
            Some(b'#') => (tag.find("#}").map_or(tag.len(), |end| end + 2), None),
            Some(b'{') => (expression_length(tag, "}}"), None),
            Some(b'%') => statement(tag),
            _ => (1, None),
        };
        match replacement {
            Some(replacement) => out.push_str(&replacement),
            None => out.push_str(&tag[..length]),
        }
        rest = &tag[length..];
    }
    out.push_str(rest);
    out
}

/// Length of the statement that `tag` begins with, and what replaces it.
fn statement(tag: &str) -> (usize, Option<String>) {
    let length = expression_length(tag, "%}");
    let Some(inner) = tag[2..length].strip_suffix("%}") else { return (length, None) };
    let word = inner.trim_matches(['-', '+']).trim();
    match word {
        "raw" => (raw_length(tag, length), None),
        "generation" | "endgeneration" => {
            let (before, after) = inner.split_once(word).unwrap_or_default();
            let name = if word == "generation" { "with" } else { "endwith" };
            (length, Some(format!("{{%{before}{name}{after}%}}")))
        }
        _ => (length, None),
    }
}

/// Bytes up to and with `close`, which does not count inside a string.
fn expression_length(tag: &str, close: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (position, c) in tag.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if tag[position..].starts_with(close) => return position + close.len(),
            None => {}
        }
    }
    tag.len()
}

/// Bytes of a `raw` block with its content, which is not template source.
fn raw_length(tag: &str, opening: usize) -> usize {
    let mut position = opening;
    while let Some(begin) = tag[position..].find("{%") {
        position += begin + 2;
        let Some(end) = tag[position..].find("%}") else { break };
        if tag[position..position + end].trim_matches(['-', '+']).trim() == "endraw" {
            return position + end + 2;
        }
    }
    tag.len()
}

#[cfg(test)]
mod tests {
    use super::replace;

    #[test]
    fn blocks_keep_their_whitespace_control() {
        let source = "{%- generation -%}a{% endgeneration %}{%-  generation  %}b{%- endgeneration +%}";
        let expected = "{%- with -%}a{% endwith %}{%-  with  %}b{%- endwith +%}";
        assert_eq!(replace(source), expected);
    }

    #[test]
    fn texts_comments_strings_and_raw_blocks_stay() {
        for source in [
            "generation {# {% generation %} #} { % generation %}",
            "{{ '{% generation %}' }} {{ \"it's }} \\\" {% generation %}\" }}",
            "{% set x = '%} {% generation %}' %}",
            "{%- raw -%} {% generation %} {{ {%- endraw %}",
            "{% if add_generation_prompt %}{% endif %}{% generation",
        ] {
            assert_eq!(replace(source), source);
        }
    }

    #[test]
    fn a_tag_behind_an_expression_is_found() {
        assert_eq!(replace("{{ x }}{% generation %}é"), "{{ x }}{% with %}é");
    }

    #[test]
    fn line_ends_are_those_of_jinja() {
        assert_eq!(replace("a\r\nb\rc\n"), "a\nb\nc\n");
    }
}
