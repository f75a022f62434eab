//! How many tokens a word is, asked of the server, so that prompts have the length that was wanted.
//!
//! With `/tokenize` each word is counted, and prompts are exact for tokenizers that cut text at spaces. Without it,
//! the prompt count of one short completion gives the average.

use futures::{StreamExt as _, TryStreamExt as _};
use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::json;

use crate::client::{Client, ClientError};

const WORDS: [&str; 60] = [
    "a",
    "i",
    "no",
    "on",
    "at",
    "we",
    "up",
    "day",
    "sun",
    "sky",
    "red",
    "old",
    "new",
    "two",
    "ten",
    "eat",
    "fly",
    "leaf",
    "wing",
    "rose",
    "blue",
    "wind",
    "rain",
    "tree",
    "long",
    "slow",
    "warm",
    "light",
    "night",
    "green",
    "white",
    "black",
    "river",
    "plant",
    "field",
    "bloom",
    "small",
    "seven",
    "three",
    "spring",
    "summer",
    "winter",
    "garden",
    "forest",
    "meadow",
    "flower",
    "colour",
    "morning",
    "evening",
    "butterfly",
    "caterpillar",
    "mountain",
    "between",
    "another",
    "question",
    "answer",
    "number",
    "together",
    "remember",
    "every",
];

/// Every prompt begins with this word: at the start of a text, without a space before it, a word costs something else.
const OPENING: &str = "the";

/// Each word is counted this many times after the opening, so that what stands before it cancels out.
const REPEAT: usize = 4;

/// Words, what each costs with the space before it, and what the opening costs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Calibration {
    words: Vec<(&'static str, f64)>,
    /// Tokens of the prompt [`OPENING`], with those that every prompt begins with.
    opening: usize,
    source: Source,
    /// If the server says how long a sequence may be.
    pub(super) max_model_len: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Tokenize,
    Usage,
}

/// Ask the server.
///
/// # Errors
/// It can not be reached, or refuses a simple request.
pub(super) async fn calibrate(client: &Client, model: &str) -> Result<Calibration, ClientError> {
    match by_tokenize(client, model).await {
        Ok(calibration) => Ok(calibration),
        Err(ClientError::Status { status: 404 | 405 | 501, .. } | ClientError::Malformed(_)) => {
            by_usage(client, model).await
        }
        Err(error) => Err(error),
    }
}

async fn by_tokenize(client: &Client, model: &str) -> Result<Calibration, ClientError> {
    let (opening, max_model_len) = count(client, model, OPENING.to_owned()).await?;
    let counts = futures::stream::iter(WORDS).map(|word| async move {
        let text = format!("{OPENING}{}", format!(" {word}").repeat(REPEAT));
        count(client, model, text).await.map(|(tokens, _)| (word, tokens))
    });
    let counts: Vec<(&'static str, usize)> = counts.buffered(8).try_collect().await?;
    let costs = counts
        .into_iter()
        .map(|(word, tokens)| (word, tokens.saturating_sub(opening) as f64 / REPEAT as f64));
    let words: Vec<_> = costs.filter(|(_, cost)| *cost > 0.0).collect();
    if words.is_empty() {
        return Err(ClientError::Malformed("/tokenize counts the same for every text".to_owned()));
    }
    Ok(Calibration { words, opening, source: Source::Tokenize, max_model_len })
}

async fn count(client: &Client, model: &str, text: String) -> Result<(usize, Option<usize>), ClientError> {
    let answer = client.post_json("/tokenize", &json!({"model": model, "prompt": text})).await?;
    let count = answer["count"]
        .as_u64()
        .ok_or_else(|| ClientError::Malformed("/tokenize gives no count".to_owned()))?;
    let limit = answer["max_model_len"].as_u64().and_then(|limit| usize::try_from(limit).ok());
    Ok((usize::try_from(count).unwrap_or(usize::MAX), limit))
}

async fn by_usage(client: &Client, model: &str) -> Result<Calibration, ClientError> {
    let text = WORDS.join(" ");
    let body = json!({"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": text}]});
    let answer = client.post_json("/v1/chat/completions", &body).await?;
    let tokens = answer["usage"]["prompt_tokens"]
        .as_u64()
        .ok_or_else(|| ClientError::Malformed("the answer has no usage.prompt_tokens".to_owned()))?;
    let cost = (tokens as f64 / WORDS.len() as f64).max(0.1);
    let words = WORDS.into_iter().map(|word| (word, cost)).collect();
    Ok(Calibration { words, opening: 1, source: Source::Usage, max_model_len: None })
}

impl Calibration {
    /// For people: how lengths are known.
    pub(super) fn describe(&self) -> &'static str {
        match self.source {
            Source::Tokenize => "prompt lengths counted by the server's /tokenize",
            Source::Usage => "prompt lengths estimated, since the server has no /tokenize",
        }
    }

    /// A text of `tokens` tokens to begin a prompt with, as nearly as the words allow.
    pub(super) fn beginning(&self, tokens: usize, rng: &mut StdRng) -> String {
        let mut text = OPENING.to_owned();
        self.extend(&mut text, tokens.saturating_sub(self.opening), rng);
        text
    }

    /// Make `text` longer by `tokens` tokens of random words.
    pub(super) fn extend(&self, text: &mut String, tokens: usize, rng: &mut StdRng) {
        let mut open = tokens as f64;
        let cheapest = self.words.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
        while open > 0.0 {
            let drawn = self.words[rng.random_range(0..self.words.len())];
            let (word, cost) = if drawn.1 <= open { drawn } else { cheapest.unwrap_or(drawn) };
            // The last word overshoots only when leaving it out would be further off.
            if cost > open * 2.0 {
                break;
            }
            text.push(' ');
            text.push_str(word);
            open -= cost;
        }
    }

    #[cfg(test)]
    pub(super) fn fixed(words: &[(&'static str, f64)], opening: usize) -> Self {
        Self { words: words.to_vec(), opening, source: Source::Tokenize, max_model_len: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::prompt::stream;

    #[test]
    fn prompts_have_the_length_that_was_wanted() {
        let calibration = Calibration::fixed(&[("a", 1.0), ("wing", 2.0), ("caterpillar", 5.0)], 2);
        let cost = |word: &str| calibration.words.iter().find(|known| known.0 == word).unwrap().1;
        for tokens in 2..200 {
            let mut rng = stream(7, tokens as u64);
            let mut text = calibration.beginning(tokens, &mut rng);
            let total = |text: &str| 2.0 + text.split(' ').skip(1).map(cost).sum::<f64>();
            assert_eq!(total(&text), tokens as f64, "{text}");
            calibration.extend(&mut text, 7, &mut rng);
            assert_eq!(total(&text), tokens as f64 + 7.0, "{text}");
        }
    }

    #[test]
    fn without_words_of_one_token_the_length_is_near() {
        let calibration = Calibration::fixed(&[("wing", 2.0), ("caterpillar", 3.0)], 0);
        for tokens in 0..50 {
            let mut text = String::new();
            calibration.extend(&mut text, tokens, &mut stream(1, tokens as u64));
            let total: usize = text.split_whitespace().map(|word| if word == "wing" { 2 } else { 3 }).sum();
            assert!(total.abs_diff(tokens) <= 1, "{total} for {tokens}");
        }
    }
}
