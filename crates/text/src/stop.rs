//! Stop strings over streamed text: where the answer ends, and what must wait until that is known.

/// Finds stop strings in text that arrives in pieces, and never lets a part of one out.
///
/// The match that is complete first wins; of several that end at the same place, the longest. The result
/// does not depend on how the text was cut into pieces. Work is proportional to the text, whatever the
/// strings are.
#[derive(Debug, Clone)]
pub struct StopStrings {
    automata: Vec<Automaton>,
    include: bool,
    /// The longest end of the text so far that may yet become a stop string.
    held: String,
    stopped: Option<usize>,
}

/// What one piece of text led to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StopStep {
    /// Text that is certain to belong to the answer.
    pub text: String,
    /// Index, in the list given to [`StopStrings::new`], of the string that ended the answer.
    pub stopped: Option<usize>,
}

/// Knuth–Morris–Pratt over the bytes of one stop string.
///
/// Both the string and the text are UTF-8, so a match can only begin where a character begins.
#[derive(Debug, Clone)]
struct Automaton {
    pattern: Box<[u8]>,
    /// `fallback[i]`: length of the longest proper prefix of the pattern that ends at byte `i`.
    fallback: Box<[usize]>,
    /// Bytes of the pattern that the text so far ends with.
    matched: usize,
    index: usize,
}

// === impl StopStrings ===

impl StopStrings {
    /// Looks for any of `strings`; empty ones are ignored. With `include` the answer keeps the stop string
    /// that ended it.
    pub fn new(strings: Vec<String>, include: bool) -> Self {
        let automata = strings
            .into_iter()
            .enumerate()
            .filter(|(_, string)| !string.is_empty())
            .map(|(index, string)| Automaton::new(index, string))
            .collect();
        Self { automata, include, held: String::new(), stopped: None }
    }

    /// Takes the next piece of text. After a stop string was found, all further text is dropped.
    pub fn push(&mut self, piece: &str) -> StopStep {
        if self.stopped.is_some() {
            return StopStep { text: String::new(), stopped: self.stopped };
        }
        if self.automata.is_empty() {
            return StopStep { text: piece.to_owned(), stopped: None };
        }
        let begin = self.held.len();
        self.held.push_str(piece);
        for (offset, &byte) in piece.as_bytes().iter().enumerate() {
            let mut longest: Option<&Automaton> = None;
            for automaton in &mut self.automata {
                if automaton.advance(byte)
                    && longest.is_none_or(|best| best.pattern.len() < automaton.pattern.len())
                {
                    longest = Some(automaton);
                }
            }
            if let Some(automaton) = longest {
                let end = begin + offset + 1;
                let keep = if self.include { end } else { end - automaton.pattern.len() };
                self.stopped = Some(automaton.index);
                self.held.truncate(keep);
                return StopStep { text: std::mem::take(&mut self.held), stopped: self.stopped };
            }
        }
        let waiting = self.automata.iter().map(|automaton| automaton.matched).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - waiting);
        StopStep { text: std::mem::replace(&mut self.held, rest), stopped: None }
    }

    /// Lets a piece through without looking for stop strings in it, with all that was held back before:
    /// for the tokens of `min_tokens`. A stop string can not begin in such text.
    pub fn pass(&mut self, piece: &str) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        let mut text = self.finish();
        text.push_str(piece);
        text
    }

    /// The text is over: gives what was held back.
    pub fn finish(&mut self) -> String {
        for automaton in &mut self.automata {
            automaton.matched = 0;
        }
        std::mem::take(&mut self.held)
    }

    /// Index of the string that ended the answer, if one did.
    pub fn stopped(&self) -> Option<usize> {
        self.stopped
    }
}

// === impl Automaton ===

impl Automaton {
    fn new(index: usize, string: String) -> Self {
        let pattern = string.into_bytes().into_boxed_slice();
        let mut fallback = vec![0; pattern.len()].into_boxed_slice();
        let mut length = 0;
        for i in 1..pattern.len() {
            while length > 0 && pattern[i] != pattern[length] {
                length = fallback[length - 1];
            }
            if pattern[i] == pattern[length] {
                length += 1;
            }
            fallback[i] = length;
        }
        Self { pattern, fallback, matched: 0, index }
    }

    /// Takes one byte of text; true when the pattern is complete with it.
    fn advance(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.pattern[self.matched] != byte {
            self.matched = self.fallback[self.matched - 1];
        }
        if self.pattern[self.matched] == byte {
            self.matched += 1;
        }
        self.matched == self.pattern.len()
    }
}

#[cfg(test)]
mod tests;
