//! Sampling on a device: what rows and slots do to each other.

use super::*;
use crate::gpu::testing::{device, devices, ids_on_gpu, on_gpu};
use crate::gpu::{Said, tests_run_on_cuda};
use crate::testing::noise;
use vlinders_device::Gpu;

const GREEDY: Draw = Draw::GREEDY;

fn rows_on_gpu(gpu: &Gpu, rows: &[SampleRow]) -> GpuTensor {
    let words: Vec<u32> = rows.iter().flat_map(|row| *row.words()).collect();
    ids_on_gpu(gpu, &words).reshape(&[rows.len(), SampleRow::WORDS]).unwrap()
}

fn words_of(tensor: &GpuTensor) -> Vec<u32> {
    tensor.to_cpu().unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Outcomes and log-probabilities of rows of logits, which all have the same length.
fn run(
    gpu: &Gpu,
    states: &TokenStates,
    rows: &[(&[f32], SampleRow)],
) -> Vec<(std::result::Result<u32, SampleFailure>, Vec<u32>)> {
    let vocab = rows[0].0.len();
    let logits: Vec<f32> = rows.iter().flat_map(|(logits, _)| logits.iter().copied()).collect();
    let logits = on_gpu(gpu, &logits, &[rows.len(), vocab], DType::F32);
    let rows = rows_on_gpu(gpu, &rows.iter().map(|(_, row)| *row).collect::<Vec<_>>());
    let drawn = sample(&logits, &rows, states).unwrap();
    let logprobs = words_of(&logprobs(&logits, &rows, &drawn).unwrap());
    let drawn = words_of(&drawn);
    std::iter::zip(drawn.chunks(2), logprobs.chunks(LOGPROBS_WORDS))
        .map(|(drawn, logprobs)| (SampleRow::outcome([drawn[0], drawn[1]]), logprobs.to_vec()))
        .collect()
}

#[test]
fn a_row_is_sampled_alike_alone_among_others_and_in_any_order_of_threads() {
    let vocab = 1500;
    let logits: Vec<Vec<f32>> =
        (0..5).map(|seed| noise(seed, vocab).iter().map(|x| (x * 40.0).round() * 0.25).collect()).collect();
    let draws = [
        Draw { slot: Some(0), presence_penalty: 1.0, top_logprobs: Some(20), ..GREEDY },
        Draw { temperature: 0.9, seed: 5, index: 3, ..GREEDY },
        Draw { temperature: 1.5, top_k: 40, seed: 6, top_logprobs: Some(3), ..GREEDY },
        Draw { temperature: 1.5, top_p: 0.7, slot: Some(1), repetition_penalty: 1.3, seed: 7, ..GREEDY },
        Draw { temperature: 2.0, top_k: 900, top_p: 0.95, min_p: 0.01, top_logprobs: Some(0), ..GREEDY },
    ];
    let said = Said { prompt: &[1, 2, 3], generated: &[3, 9, 9], ..Said::default() };
    let states_of = |gpu: &Gpu| {
        let states = TokenStates::new(gpu, 2, vocab).unwrap();
        states.begin(0, &said).unwrap();
        states.begin(1, &said).unwrap();
        states
    };
    let rows: Vec<(&[f32], SampleRow)> =
        logits.iter().zip(&draws).map(|(logits, draw)| (&logits[..], SampleRow::draw(draw))).collect();
    let written = |outcomes: Vec<(_, Vec<u32>)>| -> Vec<_> {
        std::iter::zip(outcomes, &draws)
            .map(|((outcome, words), draw)| {
                let top = draw.top_logprobs.map(|top| RowLogprobs::of_words(&words, top, vocab));
                (outcome, top)
            })
            .collect()
    };
    let gpu = device();
    let together = written(run(&gpu, &states_of(&gpu), &rows));
    for gpu in devices() {
        assert_eq!(written(run(&gpu, &states_of(&gpu), &rows)), together);
    }
    for (i, row) in rows.iter().enumerate() {
        let alone = run(&gpu, &states_of(&gpu), &[*row]).remove(0);
        assert_eq!(alone.0, together[i].0);
        if let Some(top) = draws[i].top_logprobs {
            assert_eq!(Some(RowLogprobs::of_words(&alone.1, top, vocab)), together[i].1);
        }
    }
}

#[test]
fn a_token_that_is_drawn_counts_in_the_next_step() {
    let gpu = device();
    let states = TokenStates::new(&gpu, 3, 64).unwrap();
    let mut logits = vec![0.0; 64];
    (logits[7], logits[8]) = (5.0, 4.5);
    states.begin(1, &Said::default()).unwrap();
    let draw = Draw { slot: Some(1), frequency_penalty: 0.3, ..GREEDY };
    let tokens: Vec<u32> = (0..5)
        .map(|index| {
            let row = SampleRow::draw(&Draw { index, ..draw });
            run(&gpu, &states, &[(&logits, row)]).remove(0).0.unwrap()
        })
        .collect();
    // 5, 4.7, then 4.4 < 4.5, then 4.4 > 4.2
    assert_eq!(tokens, [7, 7, 8, 7, 8]);
    states.begin(1, &Said::default()).unwrap();
    let row = SampleRow::draw(&draw);
    assert_eq!(run(&gpu, &states, &[(&logits, row)]).remove(0).0, Ok(7), "the slot was cleared");
}

#[test]
fn rows_of_padding_and_given_tokens_draw_nothing() {
    let gpu = device();
    let states = TokenStates::new(&gpu, 1, 100).unwrap();
    let nan = vec![f32::NAN; 100];
    let mut logits = vec![0.0; 100];
    logits[3] = 1.0;
    let found = run(
        &gpu,
        &states,
        &[(&nan, SampleRow::padding()), (&logits, SampleRow::given(9, 1)), (&nan, SampleRow::draw(&GREEDY))],
    );
    assert_eq!(found[0].0, Ok(0));
    assert_eq!(found[1].0, Ok(9));
    assert_eq!(found[2].0, Err(SampleFailure::NotNumbers));
    let given = RowLogprobs::of_words(&found[1].1, 1, 100);
    let total = (99.0 + 1f32.exp()).ln();
    assert_eq!(given.rank, 2);
    assert!((given.logprob + total).abs() < 1e-5, "{given:?}");
    assert_eq!(given.top[0].0, 3);
    assert!((given.top[0].1 - (1.0 - total)).abs() < 1e-5, "{given:?}");
    // Memory of an emulation is full of ones.
    if !tests_run_on_cuda().unwrap() {
        let untouched = |words: &[u32]| words.iter().all(|word| *word == u32::MAX);
        assert!(untouched(&found[0].1) && untouched(&found[2].1), "rows that do not ask are not written");
    }
}

#[test]
fn more_ties_than_the_shortlist_has_room_for_are_told_apart() {
    let gpu = device();
    let vocab = 9000;
    let states = TokenStates::new(&gpu, 1, vocab).unwrap();
    // 8000 equal logits behind 1000 lower ones, which the 5000-th largest excludes
    let logits: Vec<f32> = (0..vocab).map(|i| if i < 1000 { -6.0 } else { 2.0 }).collect();
    let mut highest = 0;
    for seed in 0..8 {
        let draw = Draw { temperature: 1.0, top_p: 0.5, top_k: 5000, seed, top_logprobs: Some(20), ..GREEDY };
        let (token, words) = run(&gpu, &states, &[(&logits, SampleRow::draw(&draw))]).remove(0);
        highest = highest.max(token.unwrap());
        assert!((1000..5000).contains(&token.unwrap()), "{token:?} is not in the first half of the ties");
        let ids: Vec<u32> = RowLogprobs::of_words(&words, 20, vocab).top.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, (1000..1020).collect::<Vec<_>>());
    }
    assert!(highest > 3000, "draws reach up to {highest} only");
}

#[test]
fn drawn_tokens_go_where_the_next_step_reads_them() {
    let gpu = device();
    let drawn = ids_on_gpu(&gpu, &[70, 0, 71, 0, 72, 0]).reshape(&[3, 2]).unwrap();
    let tokens = ids_on_gpu(&gpu, &[1, 2, 3, 4, 5]);
    next_tokens(&drawn, &ids_on_gpu(&gpu, &[2, NO_SOURCE, 0, 2]), &tokens).unwrap();
    assert_eq!(words_of(&tokens), [72, 2, 70, 72, 5]);
    let few = ids_on_gpu(&gpu, &[1]);
    assert!(next_tokens(&drawn, &tokens, &few).is_err());
}

#[test]
fn shapes_and_slots_that_do_not_fit_are_refused() {
    let gpu = device();
    let states = TokenStates::new(&gpu, 1, 8).unwrap();
    let rows = rows_on_gpu(&gpu, &[SampleRow::padding()]);
    let logits =
        |rows: usize, vocab: usize| on_gpu(&gpu, &vec![0.0; rows * vocab], &[rows, vocab], DType::F32);
    assert!(sample(&logits(1, 8), &rows, &states).is_ok());
    assert!(sample(&logits(2, 8), &rows, &states).is_err());
    assert!(sample(&logits(1, 9), &rows, &states).is_err());
    assert!(logprobs(&logits(1, 8), &rows, &rows).is_err());
    assert!(states.begin(1, &Said::default()).is_err());
}
