//! Rates, bounds and restarts, against numbers worked out by hand.

use std::time::{Duration, SystemTime};

use super::*;
use crate::histogram::HistogramTotals;

/// A whole number of slots after 1970.
const START: u64 = 1_000_000_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(START + seconds)
}

fn model(name: &str, generated: u64) -> ModelView {
    let mut model = ModelView { name: name.to_owned(), ..ModelView::default() };
    model.totals.generation_tokens = generated;
    model
}

fn rates(history: &History, seconds: u64, step: u64) -> Vec<Option<f64>> {
    let bins = history.bins("a", seconds, step);
    bins.iter().map(|bin| bin.as_ref().and_then(Slot::generation_rate)).collect()
}

#[test]
fn rates_are_rises_over_time() {
    let mut history = History::default();
    for second in 0..10 {
        // 20 tokens a second in the first slot, 50 in the second
        let tokens = if second < 5 { second * 20 } else { 80 + (second - 4) * 50 };
        history.record(at(second), &[model("a", 7000 + tokens)]);
    }
    assert_eq!(rates(&history, 10, 5), [Some(20.0), Some(50.0)]);
    // 4 rises of 20 and 5 of 50 in 9 seconds
    assert_eq!(rates(&history, 10, 10), [Some(330.0 / 9.0)]);
}

#[test]
fn lines_keep_their_form_while_time_goes_on() {
    let mut history = History::default();
    let mut known: Vec<Option<f64>> = Vec::new();
    for second in 0..200 {
        history.record(at(second), &[model("a", second * second)]);
        let bins = history.steady_bins("a", 60, 20);
        let rates: Vec<_> = bins.iter().map(|bin| bin.as_ref().and_then(Slot::generation_rate)).collect();
        // START is a multiple of 20, so is every change of bins
        match second % 20 {
            0 if second > 0 => assert_eq!(rates[..2], known[1..], "second {second}"),
            1.. => assert_eq!(rates[..2], known[..2], "second {second}"),
            _ => {}
        }
        known = rates;
    }
}

#[test]
fn the_first_sample_says_nothing_about_rates() {
    let mut history = History::default();
    history.record(at(0), &[model("a", 1_000_000)]);
    assert_eq!(rates(&history, 5, 5), [None]);
    assert!(history.bins("a", 5, 5)[0].is_some());
}

#[test]
fn a_late_sample_counts_over_the_time_it_stands_for() {
    let mut history = History::default();
    history.record(at(0), &[model("a", 0)]);
    history.record(at(20), &[model("a", 200)]);
    assert_eq!(rates(&history, 25, 5), [None, None, None, None, Some(10.0)]);
}

#[test]
fn a_restarted_worker_gives_no_negative_rate_and_no_leap() {
    let mut history = History::default();
    for (second, tokens) in [(0, 900), (1, 1000), (2, 300), (3, 400), (4, 500)] {
        history.record(at(second), &[model("a", tokens)]);
    }
    // 100 + 0 + 100 + 100 in 4 seconds
    assert_eq!(rates(&history, 5, 5), [Some(75.0)]);
}

#[test]
fn hits_and_queries_fall_together() {
    let mut history = History::default();
    for (second, queries, hits) in [(0, 100, 90), (1, 200, 140), (2, 150, 145), (3, 250, 205)] {
        let mut model = model("a", 0);
        (model.totals.prefix_queries, model.totals.prefix_hits) = (queries, hits);
        history.record(at(second), &[model]);
    }
    let bins = history.bins("a", 5, 5);
    assert_eq!(bins[0].as_ref().and_then(Slot::hit_rate), Some(110.0 / 200.0));
}

#[test]
fn an_hour_is_kept_and_no_more() {
    let mut history = History::default();
    for second in 0..3 * 3600 {
        history.record(at(second), &[model("a", second * 3)]);
    }
    assert_eq!(history.models[0].slots.len(), SLOTS);
    let bins = history.bins("a", 3600, SLOT_SECONDS);
    assert_eq!(bins.len(), SLOTS);
    assert!(bins.iter().flatten().all(|bin| bin.generation_rate() == Some(3.0)));
    assert_eq!(bins.iter().flatten().count(), SLOTS);
    assert_eq!(rates(&history, 3600, 300), vec![Some(3.0); 12]);
}

#[test]
fn models_come_and_go() {
    let mut history = History::default();
    history.record(at(0), &[model("a", 0), model("b", 0)]);
    history.record(at(1), &[model("b", 5)]);
    // "a" is back with the same counters: what it did in between is not known
    history.record(at(10), &[model("a", 500), model("b", 50)]);
    assert_eq!(rates(&history, 15, 5), [None, None, None]);
    assert_eq!(history.names().collect::<Vec<_>>(), ["a", "b"]);
    history.record(at(4000), &[model("b", 50)]);
    assert_eq!(history.names().collect::<Vec<_>>(), ["b"]);
    assert_eq!(history.bins("a", 15, 5), vec![None; 3]);
}

#[test]
fn the_number_of_models_is_bounded() {
    let mut history = History::default();
    for round in 0..1000 {
        history.record(at(round), &[model(&format!("m{round}"), 0), model("stays", round)]);
        assert!(history.models.len() <= MODELS);
    }
    assert!(history.names().any(|name| name == "stays"));
    assert!(history.names().any(|name| name == "m999"));
    let many: Vec<_> = (0..200).map(|idx| model(&format!("n{idx}"), 0)).collect();
    history.record(at(1001), &many);
    assert_eq!(history.models.len(), MODELS);
}

#[test]
fn a_clock_set_back_loses_only_what_has_not_been_yet() {
    let mut history = History::default();
    for second in 0..20 {
        history.record(at(second), &[model("a", second * 10)]);
    }
    history.record(at(6), &[model("a", 200)]);
    history.record(at(7), &[model("a", 210)]);
    // the first slot, and what the second one had before and after the clock was set back
    assert_eq!(rates(&history, 10, 5), [Some(10.0), Some(10.0)]);
    assert_eq!(history.models[0].slots.len(), 2);
}

#[test]
fn quantiles_of_a_stretch_come_from_its_own_values() {
    let mut history = History::default();
    let mut totals = HistogramTotals { bounds: vec![0.1, 0.2, 0.4], counts: vec![1000, 0, 0, 0] };
    let sample = |history: &mut History, second, totals: &HistogramTotals| {
        let mut model = model("a", 0);
        model.totals.first_token = totals.clone();
        history.record(at(second), &[model]);
    };
    sample(&mut history, 0, &totals);
    totals.counts[2] += 10;
    sample(&mut history, 1, &totals);
    totals.counts[1] += 10;
    sample(&mut history, 5, &totals);
    let median = |bin: &Option<Slot>| bin.as_ref().and_then(|bin| bin.first_token.quantile(0.5));
    let bins = history.bins("a", 10, 5);
    assert_eq!(bins.iter().map(median).collect::<Vec<_>>(), [Some(0.2 + 0.2 * 0.5), Some(0.1 + 0.1 * 0.5)]);
    assert_eq!(median(&history.bins("a", 10, 10)[0]), Some(0.2));
}

#[test]
fn gauges_are_means_and_usage_stays_a_share() {
    let mut history = History::default();
    for (second, running, usage) in [(0, 2, 0.5), (1, 4, 1.5), (2, 6, f64::NAN)] {
        let model = ModelView { running, kv_usage: usage, ..model("a", 0) };
        history.record(at(second), &[model]);
    }
    let bins = history.bins("a", 5, 5);
    let slot = bins[0].as_ref().expect("a slot");
    assert_eq!((slot.running(), slot.kv_usage(), slot.queued()), (Some(4.0), Some(0.5), Some(0.0)));
}
