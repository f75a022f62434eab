//! Every field, at and beyond its bounds.

use super::*;

const LIMITS: Limits = Limits { max_model_len: 16, vocab_size: 100, max_logprobs: 5 };

fn request(
    prompt: Vec<u32>,
    sampling: SamplingParams,
    stop: StopConditions,
) -> Result<GenerateRequest, InvalidRequest> {
    GenerateRequest::new(prompt, sampling, stop, 0, &LIMITS)
}

fn up_to(max_tokens: usize) -> StopConditions {
    StopConditions { max_tokens, ..StopConditions::default() }
}

fn said(outcome: Result<GenerateRequest, InvalidRequest>) -> String {
    outcome.map_or_else(|error| format!("{}: {error}", error.field()), |_| "ok".to_owned())
}

#[test]
fn lengths_are_told_with_both_numbers() {
    let check = |prompt: usize, max_tokens: usize, expect: &str| {
        assert_eq!(said(request(vec![1; prompt], SamplingParams::default(), up_to(max_tokens))), expect);
    };
    check(1, 1, "ok");
    check(15, 1, "ok");
    check(1, 15, "ok");
    check(0, 1, "prompt: the prompt is empty; give at least one token");
    check(
        16,
        1,
        "prompt: the prompt has 16 tokens and the model takes 16 tokens, prompt and answer together; \
         shorten the prompt",
    );
    check(
        10,
        7,
        "max_tokens: the prompt has 10 tokens and max_tokens is 7, together more than the 16 tokens of the model; \
         lower max_tokens or shorten the prompt",
    );
    check(
        10,
        usize::MAX,
        "max_tokens: the prompt has 10 tokens and max_tokens is 18446744073709551615, together more than the \
         16 tokens of the model; lower max_tokens or shorten the prompt",
    );
    check(
        3,
        0,
        "max_tokens: max_tokens is 0; it must be at least 1, unless log-probabilities of the prompt are asked for",
    );
}

#[test]
fn only_log_probabilities_of_the_prompt_need_no_answer() {
    let sampling = SamplingParams { prompt_logprobs: Some(0), ..SamplingParams::default() };
    assert_eq!(said(request(vec![1; 16], sampling.clone(), up_to(0))), "ok");
    assert!(request(vec![1; 17], sampling, up_to(0)).is_err());
}

#[test]
fn numbers_stay_in_their_range() {
    let check = |change: fn(&mut SamplingParams, f32), good: &[f32], bad: &[f32], expect: &str| {
        for (value, good) in
            good.iter().map(|value| (value, true)).chain(bad.iter().map(|value| (value, false)))
        {
            let mut sampling = SamplingParams::default();
            change(&mut sampling, *value);
            let said = said(request(vec![1], sampling, up_to(1)));
            let expect = if good { "ok".to_owned() } else { expect.replace("VALUE", &value.to_string()) };
            assert_eq!(said, expect);
        }
    };
    let none = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let with = |more: &[f32]| [&none[..], more].concat();
    check(
        |sampling, value| sampling.temperature = value,
        &[0.0, 0.7, 2.0, 1e30],
        &with(&[-0.1, -1e30]),
        "temperature: temperature is VALUE; it must be at least 0",
    );
    check(
        |sampling, value| sampling.top_p = value,
        &[0.01, 1.0],
        &with(&[0.0, -0.1, 1.1]),
        "top_p: top_p is VALUE; it must be above 0 and at most 1",
    );
    check(
        |sampling, value| sampling.min_p = value,
        &[0.0, 1.0],
        &with(&[-0.1, 1.1]),
        "min_p: min_p is VALUE; it must be from 0 to 1",
    );
    check(
        |sampling, value| sampling.presence_penalty = value,
        &[-2.0, 2.0],
        &with(&[-2.1, 2.1]),
        "presence_penalty: presence_penalty is VALUE; it must be from -2 to 2",
    );
    check(
        |sampling, value| sampling.frequency_penalty = value,
        &[-2.0, 2.0],
        &with(&[-2.1, 2.1]),
        "frequency_penalty: frequency_penalty is VALUE; it must be from -2 to 2",
    );
    check(
        |sampling, value| sampling.repetition_penalty = value,
        &[0.5, 1.0, 2.0],
        &with(&[0.0, -1.0]),
        "repetition_penalty: repetition_penalty is VALUE; it must be above 0",
    );
    check(
        |sampling, value| sampling.logit_bias = vec![(3, value)],
        &[-100.0, 100.0],
        &with(&[-100.5, 100.5]),
        "logit_bias: logit_bias is VALUE; it must be from -100 to 100",
    );
}

#[test]
fn ids_are_in_the_vocabulary() {
    let check = |prompt: u32, bias: u32, stop: u32, expect: &str| {
        let sampling = SamplingParams { logit_bias: vec![(bias, 1.0)], ..SamplingParams::default() };
        let stop = StopConditions { stop_token_ids: vec![stop], ..up_to(1) };
        assert_eq!(said(request(vec![1, prompt], sampling, stop)), expect);
    };
    check(99, 99, 99, "ok");
    check(100, 99, 99, "prompt: prompt has token id 100; ids must be below 100");
    check(99, 100, 99, "logit_bias: logit_bias has token id 100; ids must be below 100");
    check(99, 99, u32::MAX, "stop_token_ids: stop_token_ids has token id 4294967295; ids must be below 100");
}

#[test]
fn logprobs_and_min_tokens_have_limits() {
    let check = |logprobs: u32, prompt_logprobs: u32, min_tokens: usize, expect: &str| {
        let sampling = SamplingParams {
            logprobs: Some(logprobs),
            prompt_logprobs: Some(prompt_logprobs),
            ..SamplingParams::default()
        };
        assert_eq!(said(request(vec![1], sampling, StopConditions { min_tokens, ..up_to(3) })), expect);
    };
    check(5, 5, 3, "ok");
    check(6, 5, 3, "logprobs: logprobs is 6; it must be at most 5");
    check(5, 6, 3, "prompt_logprobs: prompt_logprobs is 6; it must be at most 5");
    check(5, 5, 4, "min_tokens: min_tokens is 4; it must be at most max_tokens, which is 3");
}

#[test]
fn what_follows_from_other_fields_is_set() {
    let stop = StopConditions {
        eos_token_ids: vec![9, 2, 9, 1000],
        stop_token_ids: vec![5, 2],
        max_tokens: 8,
        min_tokens: 4,
    };
    let sampling = SamplingParams { min_tokens: 77, suppressed: vec![50], ..SamplingParams::default() };
    let request = request(vec![1], sampling, stop).unwrap();
    assert_eq!(request.stop().eos_token_ids, [2, 9, 1000], "sorted, as they are searched");
    assert_eq!(request.stop().stop_token_ids, [2, 5]);
    assert_eq!(request.sampling().suppressed, [2, 5, 9], "those the model has");
    assert_eq!(request.sampling().min_tokens, 4);
}

#[test]
fn without_max_tokens_an_answer_may_fill_the_room() {
    assert_eq!(LIMITS.max_tokens(10, None), 6);
    assert_eq!(LIMITS.max_tokens(10, Some(3)), 3);
    assert_eq!(LIMITS.max_tokens(17, None), 0);
}
