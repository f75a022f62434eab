//! A model that repeats what it is told: the last message, or the whole prompt of a completion.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};

use vlinders_engine::{
    Executor, ExecutorError, PromptLogprobs, Sampled, SamplingParams, SeqId, StepOutput, StepPlan,
    TokenLogprobs,
};

use super::tokenizer::{ASSISTANT, END, TOOL, USER};

/// Holds the model back: how many more steps it may take.
#[derive(Clone)]
pub(crate) struct Gate(Arc<(Mutex<usize>, Condvar)>);

/// What the model knows of a sequence.
struct Told {
    prompt: Arc<[u32]>,
    words: Vec<u32>,
    sampling: Arc<SamplingParams>,
}

pub(crate) struct Parrot {
    gate: Gate,
    told: HashMap<SeqId, Told>,
}

impl Gate {
    pub(crate) fn open() -> Self {
        Self(Arc::new((Mutex::new(usize::MAX), Condvar::new())))
    }

    pub(crate) fn set_open(&self) {
        self.allow(usize::MAX);
    }

    pub(crate) fn close(&self) {
        self.allow(0);
    }

    /// Let it take this many steps.
    pub(crate) fn allow(&self, steps: usize) {
        *self.0.0.lock().unwrap() = steps;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut steps = self.0.1.wait_while(self.0.0.lock().unwrap(), |steps| *steps == 0).unwrap();
        if *steps != usize::MAX {
            *steps -= 1;
        }
    }
}

impl Parrot {
    pub(crate) fn new(gate: Gate) -> Self {
        Self { gate, told: HashMap::new() }
    }
}

impl Executor for Parrot {
    fn step(&mut self, plan: &StepPlan) -> Result<StepOutput, ExecutorError> {
        if !plan.work.is_empty() {
            self.gate.pass();
        }
        for seq in &plan.finished {
            self.told.remove(seq);
        }
        let mut output = StepOutput::default();
        for started in &plan.started {
            let told = Told {
                words: words(&started.prompt),
                prompt: started.prompt.clone(),
                sampling: started.sampling.clone(),
            };
            self.told.insert(started.seq, told);
        }
        for work in &plan.work {
            let told = &self.told[&work.seq];
            if told.says("BREAK THE ENGINE") {
                return Err(ExecutorError("it was told to break".into()));
            }
            if let Some(top) = told.sampling.prompt_logprobs {
                // Those of the tokens behind the ones fed in this step, as far as they are of the prompt.
                let first = work.start as usize + 1;
                let last = (first + work.num_tokens()).min(told.prompt.len());
                if first < last {
                    let tokens = told.prompt[first..last].iter().map(|token| logprobs(*token, top)).collect();
                    output.prompt_logprobs.push((work.seq, PromptLogprobs { start: first as u32, tokens }));
                }
            }
            if work.sample {
                output.sampled.push(told.say(work.num_generated));
            }
        }
        Ok(output)
    }
}

impl Told {
    fn says(&self, phrase: &str) -> bool {
        let said: Vec<u8> = self.words.iter().filter_map(|word| u8::try_from(*word).ok()).collect();
        String::from_utf8_lossy(&said).contains(phrase)
    }

    /// The next token: a byte of what it was told, in capitals if the seed is odd; then the end, or the same again.
    fn say(&self, num_generated: u32) -> Sampled {
        if self.says("FAIL ALONE") {
            return Sampled::Failed("it was told to fail".into());
        }
        let position = num_generated as usize;
        let may_end = num_generated >= self.sampling.min_tokens && self.sampling.suppressed.contains(&END);
        let mut token = match self.words.get(position) {
            Some(token) => *token,
            None if may_end => END,
            None => self.words[position % self.words.len()],
        };
        if self.sampling.seed % 2 == 1 && token < 256 {
            token = u32::from((token as u8).to_ascii_uppercase());
        }
        Sampled::Token { token, logprobs: self.sampling.logprobs.map(|top| Box::new(logprobs(token, top))) }
    }
}

/// What follows the last mark of a speaker, or everything.
fn words(prompt: &[u32]) -> Vec<u32> {
    let start =
        prompt.iter().rposition(|token| [USER, TOOL].contains(token)).map_or(0, |position| position + 1);
    let told: Vec<u32> =
        prompt[start..].iter().copied().take_while(|token| ![END, ASSISTANT].contains(token)).collect();
    if told.is_empty() { vec![u32::from(b'.')] } else { told }
}

/// The token with logarithm −0.25, then its neighbours, each one less.
fn logprobs(token: u32, top: u32) -> TokenLogprobs {
    let top = (0..top).map(|i| ((token + i) % 256, -0.25 - i as f32)).collect();
    TokenLogprobs { logprob: -0.25, rank: 1, top }
}
