//! What of an answer a terminal is given: text, and nothing that it would obey.

use std::borrow::Cow;

/// `text` without control characters but line feeds and tabs. What a model writes is not to change colours, move the
/// cursor, set a title or answer for the user; such characters are shown by their pictures instead.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let picture = |c: char| match c {
        // Half of a line end of other systems.
        '\r' => None,
        '\u{7f}' => Some('\u{2421}'),
        c if c < ' ' && obeyed(c) => char::from_u32(0x2400 + u32::from(c)),
        c if obeyed(c) => Some(char::REPLACEMENT_CHARACTER),
        c => Some(c),
    };
    Cow::Owned(text.chars().filter_map(picture).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_passes_and_commands_do_not() {
        let text = "a\tb\nç 🦋 e\u{301} 日本";
        assert!(matches!(harmless(text), Cow::Borrowed(same) if same == text));
        assert_eq!(harmless("\u{1b}[31mred\u{1b}]0;title\u{7}"), "␛[31mred␛]0;title␇");
        assert_eq!(harmless("one\r\ntwo\u{7f}\u{9b}2J"), "one\ntwo␡\u{fffd}2J");
    }
}
