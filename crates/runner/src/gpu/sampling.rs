//! Samples on the device, so that a step copies back two words for each sequence instead of a row of logits.
//!
//! Sequences whose penalties, bias or minimum length change logits take a slot of the device's [`TokenStates`]. Those that find
//! none free are sampled on the host, with the same result.

use std::collections::HashMap;

use candle_core::DType;
use vlinders_device::{Gpu, GpuTensor};
use vlinders_engine::{ExecutorError, Sampled, SamplingParams, SeqId, StepOutput, StepPlan, TokenLogprobs};
use vlinders_kernels::gpu::{Draw, RowLogprobs, Said, SampleRow, TokenStates, logprobs, sample};
use vlinders_layers::LayerError;

use crate::Sampler;
use crate::layout::{Layout, RowUse, failed};
use crate::sample::changes;
use crate::sequence::Sequence;

/// Slots are 8 bytes for each token of the vocabulary: 65 MB for so many at 128k tokens.
const MOST_SLOTS: usize = 64;

/// Log-probabilities of a row, as the device writes them; empty where no row asks for them.
type Words = Vec<u32>;

/// What sampling keeps on the device.
pub(super) struct Sampling {
    states: TokenStates,
    free: Vec<u32>,
    slots: HashMap<SeqId, u32>,
    on_host: Sampler,
}

/// How one row is sampled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    OnDevice,
    OnHost,
}

// === impl Sampling ===

impl Sampling {
    pub(super) fn new(gpu: &Gpu, num_sequences: usize, vocab: usize) -> Result<Self, LayerError> {
        let slots = num_sequences.min(MOST_SLOTS);
        Ok(Self {
            states: TokenStates::new(gpu, slots, vocab)?,
            free: (0..slots as u32).rev().collect(),
            slots: HashMap::new(),
            on_host: Sampler::default(),
        })
    }

    /// Sequences that are gone give their slots back.
    pub(super) fn forget(&mut self, finished: &[SeqId]) {
        self.free.extend(finished.iter().filter_map(|seq| self.slots.remove(seq)));
    }

    /// What rows `first..` of those that want logits are for, from their logits `[rows, vocab]`.
    pub(super) fn read(
        &mut self,
        plan: &StepPlan,
        layout: &mut Layout,
        first: usize,
        logits: &GpuTensor,
        output: &mut StepOutput,
    ) -> Result<(), ExecutorError> {
        let (count, vocab) = (logits.dims()[0], logits.dims()[1]);
        let uses: Vec<RowUse> = layout.uses()[first..first + count].to_vec();
        let (mut rows, mut ways) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for used in &uses {
            let (row, way) = self.row(plan, layout, *used)?;
            rows.push(row);
            ways.push(way);
        }
        let (drawn, tops) = self.run(logits, &rows).map_err(failed)?;
        for (i, used) in uses.iter().enumerate() {
            if ways[i] == Way::OnHost {
                let row = logits.rows(i, 1).and_then(|row| row.to_cpu());
                let row = row.map_err(failed)?;
                let numbers = row.flatten_all().and_then(|row| row.to_vec1::<f32>());
                let numbers = numbers.map_err(failed)?;
                layout.read(plan, &mut self.on_host, first + i, &numbers, vocab, output)?;
                continue;
            }
            let top = |asked| as_engine(RowLogprobs::of_words(&tops[i], asked, vocab));
            match *used {
                RowUse::Unused => {}
                RowUse::Sample { work } => {
                    let sequence = layout.sequence(plan.work[work].seq)?;
                    output.sampled.push(match SampleRow::outcome(drawn[i]) {
                        Ok(token) => {
                            sequence.history.push(token);
                            let logprobs = sequence.sampling.logprobs.map(|asked| Box::new(top(asked)));
                            Sampled::Token { token, logprobs }
                        }
                        Err(failure) => Sampled::Failed(failure.to_string()),
                    });
                }
                RowUse::Prompt { work, position } => {
                    let seq = plan.work[work].seq;
                    let sequence = layout.sequence(seq)?;
                    let asked = sequence.sampling.prompt_logprobs.unwrap_or(0);
                    sequence.report(seq, position, top(asked), &mut output.prompt_logprobs);
                }
            }
        }
        Ok(())
    }

    /// What a row is for, as the device reads it.
    fn row(
        &mut self,
        plan: &StepPlan,
        layout: &mut Layout,
        used: RowUse,
    ) -> Result<(SampleRow, Way), ExecutorError> {
        match used {
            RowUse::Unused => Ok((SampleRow::padding(), Way::OnDevice)),
            RowUse::Prompt { work, position } => {
                let sequence = layout.sequence(plan.work[work].seq)?;
                let asked = sequence.sampling.prompt_logprobs.unwrap_or(0);
                Ok((SampleRow::given(sequence.prompt[position as usize], asked), Way::OnDevice))
            }
            RowUse::Sample { work } => {
                let work = &plan.work[work];
                let sequence = layout.sequence(work.seq)?;
                // Penalties that a later token ends, as a minimum length does, still need one from the first token on.
                let needs_slot = changes(&sequence.sampling, 0);
                let slot = if needs_slot { self.slot(work.seq, sequence)? } else { None };
                if needs_slot && slot.is_none() {
                    return Ok((SampleRow::padding(), Way::OnHost));
                }
                let row = SampleRow::draw(&draw(&sequence.sampling, work.num_generated, slot));
                Ok((row, Way::OnDevice))
            }
        }
    }

    /// The slot of a sequence, which it takes when it is sampled for the first time; `None` when none is free.
    fn slot(&mut self, seq: SeqId, sequence: &Sequence) -> Result<Option<u32>, ExecutorError> {
        if let Some(slot) = self.slots.get(&seq) {
            return Ok(Some(*slot));
        }
        // On the device counts begin with the first token; a sequence that began on the host stays there.
        if sequence.history.has_generated() {
            return Ok(None);
        }
        let Some(slot) = self.free.pop() else { return Ok(None) };
        let said = Said {
            prompt: if sequence.sampling.repetition_penalty == 1.0 { &[] } else { &sequence.prompt },
            generated: &[],
            suppressed: &sequence.sampling.suppressed,
            biases: &sequence.sampling.logit_bias,
        };
        self.slots.insert(seq, slot);
        self.states.begin(slot as usize, &said).map_err(failed)?;
        Ok(Some(slot))
    }

    /// Tokens of all rows, and words of log-probabilities where a row asks for them.
    fn run(&self, logits: &GpuTensor, rows: &[SampleRow]) -> Result<(Vec<[u32; 2]>, Vec<Words>), LayerError> {
        let gpu = logits.gpu();
        let words: Vec<u32> = rows.iter().flat_map(|row| *row.words()).collect();
        let on_gpu = gpu.empty(&[rows.len(), SampleRow::WORDS], DType::U32)?;
        on_gpu.write(&candle_core::Tensor::from_vec(
            words,
            (rows.len(), SampleRow::WORDS),
            &candle_core::Device::Cpu,
        )?)?;
        let drawn = sample(logits, &on_gpu, &self.states)?;
        let tops = match rows.iter().any(SampleRow::asks_for_logprobs) {
            true => logprobs(logits, &on_gpu, &drawn)?.to_cpu()?.to_vec2::<u32>()?,
            false => vec![Vec::new(); rows.len()],
        };
        let drawn = drawn.to_cpu()?.flatten_all()?.to_vec1::<u32>()?;
        Ok((drawn.as_chunks::<2>().0.to_vec(), tops))
    }
}

fn draw(params: &SamplingParams, index: u32, slot: Option<u32>) -> Draw {
    Draw {
        seed: params.seed,
        index,
        slot,
        temperature: params.temperature,
        top_p: params.top_p,
        min_p: params.min_p,
        top_k: params.top_k,
        repetition_penalty: params.repetition_penalty,
        presence_penalty: params.presence_penalty,
        frequency_penalty: params.frequency_penalty,
        min_tokens: params.min_tokens,
        top_logprobs: params.logprobs,
    }
}

/// Log-probabilities of a row, as the engine has them.
fn as_engine(row: RowLogprobs) -> TokenLogprobs {
    TokenLogprobs { logprob: row.logprob, rank: row.rank, top: row.top }
}
