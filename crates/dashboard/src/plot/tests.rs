//! Axes and lines, against coordinates worked out by hand.

use std::time::{Duration, SystemTime};

use super::*;
use crate::history::History;
use crate::source::ModelView;

#[test]
fn axes_end_just_above_what_they_show() {
    for (highest, whole, expected) in [
        (0.0, false, (0.5, 0.5)),
        (0.0, true, (1.0, 1.0)),
        (3.0, true, (3.0, 1.0)),
        (7.0, false, (8.0, 2.0)),
        (100.0, false, (100.0, 50.0)),
        (130.0, false, (150.0, 50.0)),
        (0.9, false, (1.0, 0.5)),
        (2400.0, false, (3000.0, 1000.0)),
    ] {
        let (top, step) = scale(highest, whole);
        assert!(
            (top - expected.0).abs() < 1e-9 && (step - expected.1).abs() < 1e-9,
            "{highest}: {top}, {step}"
        );
    }
}

#[test]
fn lines_are_interrupted_where_nothing_is_known() {
    let drawn = path(&[Some(0.0), Some(1.0), None, Some(0.5)], 1.0);
    assert_eq!(drawn, "M123 152h0L206 18M372 85h0");
    assert_eq!(path(&[None, None], 1.0), "");
}

#[test]
fn what_is_too_high_stays_inside() {
    assert_eq!(path(&[Some(7.0)], 1.0), "M372 18h0");
}

#[test]
fn a_plot_says_in_words_what_it_draws() {
    let mut history = History::default();
    for second in 0..60u64 {
        let running = if second < 30 { 2 } else { 6 };
        let model = ModelView { name: "a".into(), running, ..ModelView::default() };
        history.record(SystemTime::UNIX_EPOCH + Duration::from_secs(600 + second), &[model]);
    }
    let spec = PlotSpec {
        id: "queue",
        title: "Requests",
        unit: Unit::Requests,
        lines: vec![("running", Slot::running), ("waiting", Slot::waiting)],
    };
    let range = Range::FiveMinutes;
    let plot = Plot::new(
        &spec,
        range,
        &history.bins("a", range.seconds(), range.step()),
        &history.bins("a", range.seconds(), range.row()),
    );
    assert_eq!(plot.description, "running: now 6, lowest 2, highest 6. waiting: now 0, lowest 0, highest 0.");
    let rows: Vec<_> = plot.rows.iter().map(|row| (row.when.as_str(), row.values[0].as_str())).collect();
    assert_eq!(rows, [("0\u{2013}30 s", "6"), ("30\u{2013}60 s", "2")]);
    assert_eq!(plot.y_ticks.iter().map(|tick| tick.text.as_str()).collect::<Vec<_>>(), ["0", "2", "4", "6"]);
    assert!(plot.has_data);
}
