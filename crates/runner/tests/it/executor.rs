//! Steps: log-probabilities, preemption, company, plans that make no sense.

use vlinders_engine::{Sampled, SamplingParams, TokenLogprobs};
use vlinders_testkit::Golden;

use crate::support::{Driver, Part, greedy, load_folder, options};

fn driver(name: &str) -> (Driver, Golden) {
    let golden = Golden::load(name).unwrap();
    (Driver::new(load_folder(&golden.folder, &options()).executor), golden)
}

fn token(sampled: &Sampled) -> (u32, Option<TokenLogprobs>) {
    match sampled {
        Sampled::Token { token, logprobs } => (*token, logprobs.as_deref().cloned()),
        Sampled::Failed(reason) => panic!("{reason}"),
    }
}

/// The reference's own answer, with the log-probabilities that it gives.
#[test]
fn generated_tokens_have_the_log_probabilities_of_the_reference() {
    let (mut driver, golden) = driver("qwen3-tiny");
    let prompt = &golden.prompts[4];
    driver.begin(0, &prompt.input_ids, SamplingParams { logprobs: Some(2), ..greedy() });
    let table: Vec<u32> = (0..18).rev().collect();
    let mut fed = prompt.input_ids.clone();
    let mut start = 0;
    for (i, (&expected, &logprob)) in prompt.greedy.iter().zip(&prompt.greedy_logprobs).enumerate() {
        let output = driver
            .run(&[Part {
                seq: 0,
                tokens: &fed[start..],
                start: start as u32,
                blocks: (i == 0).then_some(&table[..]),
                sample: Some(i as u32),
            }])
            .unwrap();
        start = fed.len();
        let (token, logprobs) = token(&output.sampled[0]);
        let logprobs = logprobs.unwrap();
        assert_eq!(token, expected);
        assert!((logprobs.logprob - logprob).abs() < 1e-4, "{} is not {logprob}", logprobs.logprob);
        assert_eq!((logprobs.rank, logprobs.top.len()), (1, 2));
        assert_eq!(logprobs.top[0], (token, logprobs.logprob));
        fed.push(token);
    }
}

/// One for each token but the first, whatever the chunks; not again when a prompt is recomputed.
#[test]
fn prompt_logprobs_cover_every_position_once() {
    let (mut driver, golden) = driver("llama-tiny");
    let prompt = &golden.prompts[3];
    driver.begin(0, &prompt.input_ids, SamplingParams { prompt_logprobs: Some(1), ..greedy() });
    let table: Vec<u32> = (0..10).collect();
    let mut got = Vec::new();
    // the third piece begins a recomputation after a preemption
    for (start, end, reset) in [(0, 1, true), (1, 9, false), (0, 12, true), (12, 21, false)] {
        let output = driver
            .run(&[Part {
                seq: 0,
                tokens: &prompt.input_ids[start..end],
                start: start as u32,
                blocks: reset.then_some(&table[..]),
                sample: (end == 21).then_some(0),
            }])
            .unwrap();
        for (_, run) in &output.prompt_logprobs {
            assert_eq!(run.start as usize, got.len() + 1);
            got.extend(run.tokens.clone());
        }
        if end == 21 {
            assert_eq!(token(&output.sampled[0]).0, prompt.greedy[0]);
        }
    }
    assert_eq!(got.len(), 20);
    for (i, logprobs) in got.iter().enumerate() {
        let logits = &prompt.logits[i];
        let total = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        let expected = f64::from(logits[prompt.input_ids[i + 1] as usize]) - total;
        assert!((f64::from(logprobs.logprob) - expected).abs() < 2e-4);
        assert_eq!(logprobs.top.len(), 1);
    }
}

/// A sequence that lost its blocks and is computed again goes on as if nothing had happened, penalties included.
#[test]
fn a_preempted_sequence_draws_the_same_tokens() {
    let (mut driver, golden) = driver("llama-tiny");
    let prompt = &golden.prompts[2].input_ids;
    let sampling = SamplingParams {
        temperature: 1.5,
        seed: 11,
        repetition_penalty: 1.3,
        presence_penalty: 0.5,
        ..SamplingParams::default()
    };
    let table: Vec<u32> = (0..10).collect();
    let mut answer = |seq: u32, preempted_at: Option<usize>| {
        driver.begin(seq, prompt, sampling.clone());
        let mut tokens = prompt.clone();
        let mut start = 0;
        for i in 0..12 {
            let again = preempted_at == Some(i);
            if again {
                start = 0;
            }
            let output = driver
                .run(&[Part {
                    seq,
                    tokens: &tokens[start..],
                    start: start as u32,
                    blocks: (i == 0 || again).then_some(&table[..]),
                    sample: Some(i as u32),
                }])
                .unwrap();
            start = tokens.len();
            tokens.push(token(&output.sampled[0]).0);
        }
        driver.finish(seq);
        tokens
    };
    let whole = answer(0, None);
    assert_eq!(answer(0, Some(5)), whole);
    assert_eq!(answer(3, Some(11)), whole);
}

/// A repetition penalty sees tokens of the prompt; a presence penalty only what was generated.
#[test]
fn penalties_see_what_they_should() {
    let (mut driver, golden) = driver("llama-tiny");
    let prompt = &golden.prompts[2];
    let first = prompt.greedy[0];
    let mut long = prompt.input_ids.clone();
    long.extend_from_slice(&prompt.greedy[..1]);
    let mut next = |sampling: SamplingParams, prompt: &[u32]| {
        driver.begin(0, prompt, sampling);
        let table: Vec<u32> = (0..18).collect();
        let part = Part { seq: 0, tokens: prompt, start: 0, blocks: Some(&table), sample: Some(0) };
        token(&driver.run(&[part]).unwrap().sampled[0]).0
    };
    assert_eq!(next(greedy(), &prompt.input_ids), first);
    let presence = SamplingParams { presence_penalty: 2.0, frequency_penalty: 2.0, ..greedy() };
    assert_eq!(next(presence, &long), prompt.greedy[1]);
    // with a penalty this large no positive logit of a token in the prompt can win
    let everything: Vec<u32> = (0..96).collect();
    let repetition = SamplingParams { repetition_penalty: 1e6, ..greedy() };
    assert!(next(repetition, &everything[..60]) >= 60);
}

/// A token of one sequence never depends on the others in the batch, nor on the order of the batch.
#[test]
fn company_changes_no_draw() {
    let (mut driver, golden) = driver("qwen3-tiny");
    let tables: Vec<Vec<u32>> = (0..3).map(|seq| (seq * 6..seq * 6 + 6).collect()).collect();
    let part = |seq: u32| Part {
        seq,
        tokens: &golden.prompts[seq as usize + 1].input_ids,
        start: 0,
        blocks: Some(&tables[seq as usize]),
        sample: Some(0),
    };
    let mut run = |seqs: &[u32]| {
        for &seq in seqs {
            let seed = u64::from(seq);
            let sampling =
                SamplingParams { top_p: 0.9, seed, logprobs: Some(3), ..SamplingParams::default() };
            driver.begin(seq, part(seq).tokens, sampling);
        }
        let parts: Vec<Part<'_>> = seqs.iter().map(|&seq| part(seq)).collect();
        let output = driver.run(&parts).unwrap();
        seqs.iter().for_each(|&seq| driver.finish(seq));
        output.sampled.iter().map(token).collect::<Vec<_>>()
    };
    let together = run(&[2, 0, 1]);
    assert_eq!(run(&[0]), together[1..2]);
    assert_eq!(run(&[1]), together[2..3]);
    assert_eq!(run(&[2]), together[0..1]);
}

#[test]
fn a_plan_that_makes_no_sense_is_an_error() {
    let (mut driver, _) = driver("llama-tiny");
    fn part<'a>(seq: u32, tokens: &'a [u32], blocks: &'a [u32]) -> Part<'a> {
        Part { seq, tokens, start: 0, blocks: Some(blocks), sample: Some(0) }
    }
    let error = driver.run(&[part(5, &[1, 2], &[0])]).unwrap_err();
    assert_eq!(error, "the model failed: sequence 5 was never started");
    driver.begin(0, &[1, 2, 3, 4, 5], greedy());
    let error = driver.run(&[part(0, &[1, 2, 3, 4, 5], &[0])]).unwrap_err();
    assert!(error.contains("sequence 0 has 1 blocks of 4 for positions up to 5"), "{error}");
    driver.begin(0, &[1], greedy());
    assert!(driver.run(&[part(0, &[9999], &[0])]).unwrap_err().contains("9999"));
    assert!(driver.run(&[part(0, &[1], &[4000])]).is_err());
    assert!(driver.run(&[part(0, &[1], &[3])]).is_ok());
    driver.finish(0);
    assert!(driver.run(&[]).unwrap().sampled.is_empty());
    assert!(driver.run(&[part(0, &[1], &[3])]).is_err());
}
