//! Where lines, ticks and words of a plot stand.

#[cfg(test)]
mod tests;

use crate::format::{Unit, number};
use crate::history::Slot;
use crate::range::Range;

/// What one line shows of a stretch of time.
pub(crate) type Measure = fn(&Slot) -> Option<f64>;

/// What a plot is to show.
pub(crate) struct PlotSpec {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
    /// Name of each line, and what it shows.
    pub(crate) lines: Vec<(&'static str, Measure)>,
}

/// A plot with everything worked out that its template writes.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// One sentence for each line, for those who do not see it.
    pub(crate) description: String,
    /// Unit at the axis.
    pub(crate) axis: &'static str,
    pub(crate) lines: Vec<Line>,
    pub(crate) y_ticks: Vec<Tick>,
    pub(crate) x_ticks: Vec<Tick>,
    pub(crate) rows: Vec<Row>,
    /// Whether there is a line at all.
    pub(crate) has_data: bool,
    pub(crate) frame: FrameBox,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) class: &'static str,
    pub(crate) label: &'static str,
    /// The newest value with its unit.
    pub(crate) now: String,
    /// `d` of the path; interrupted where there is no value.
    pub(crate) path: String,
}

/// A mark on an axis.
#[derive(Debug)]
pub(crate) struct Tick {
    pub(crate) at: String,
    pub(crate) text: String,
    /// Where the text hangs: `start`, `middle` or `end`.
    pub(crate) anchor: &'static str,
}

/// A row of the table beside the plot.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) when: String,
    pub(crate) values: Vec<String>,
}

/// Size of the drawing and of the field inside its axes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameBox {
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
    pub(crate) bottom: f64,
}

const FRAME: FrameBox =
    FrameBox { width: 380.0, height: 176.0, left: 40.0, right: 372.0, top: 18.0, bottom: 152.0 };
const CLASSES: [&str; 3] = ["a", "b", "c"];

// === impl Plot ===

impl Plot {
    /// Lay out `spec` over `bins` (points of the lines) and `rows` (of the table), both oldest first.
    pub(crate) fn new(spec: &PlotSpec, range: Range, bins: &[Option<Slot>], rows: &[Option<Slot>]) -> Self {
        let values: Vec<Vec<Option<f64>>> =
            spec.lines.iter().map(|(_, measure)| measured(bins, *measure)).collect();
        let highest = values.iter().flatten().flatten().fold(0.0, |high: f64, value| high.max(*value));
        let (axis, factor) = match spec.unit {
            Unit::Seconds if highest < 1.0 => ("ms", 1000.0),
            Unit::Seconds => ("s", 1.0),
            Unit::Share => ("%", 100.0),
            Unit::TokensPerSecond => ("tok/s", 1.0),
            Unit::Requests => ("requests", 1.0),
        };
        let (top, step) = match spec.unit {
            Unit::Share => (100.0, 25.0),
            _ => scale(highest * factor, spec.unit == Unit::Requests),
        };
        let lines = spec.lines.iter().zip(&values).zip(CLASSES);
        let lines: Vec<Line> = lines
            .map(|(((label, _), values), class)| Line {
                class,
                label,
                now: spec.unit.write(newest(values)),
                path: path(values, factor / top),
            })
            .collect();
        let description = lines.iter().zip(&values).map(|(line, values)| sentence(spec, line, values));
        let num_ticks = (top / step).round() as usize;
        Self {
            id: spec.id,
            title: spec.title,
            description: description.collect::<Vec<_>>().join(" "),
            axis,
            y_ticks: (0..=num_ticks).map(|idx| y_tick(idx as f64 * step, top)).collect(),
            x_ticks: range.ticks().iter().map(|minutes| x_tick(*minutes, range)).collect(),
            rows: table(spec, range, rows),
            has_data: values.iter().flatten().any(Option::is_some),
            lines,
            frame: FRAME,
        }
    }
}

fn measured(bins: &[Option<Slot>], measure: Measure) -> Vec<Option<f64>> {
    bins.iter().map(|bin| bin.as_ref().and_then(measure).filter(|value| value.is_finite())).collect()
}

/// A value counts as the present one as long as it is one of the last three.
fn newest(values: &[Option<f64>]) -> Option<f64> {
    values.iter().rev().take(3).find_map(|value| *value)
}

/// The end of an axis that reaches `highest`, and the distance of its ticks: 1, 2 or 5 times a power of ten.
fn scale(highest: f64, whole: bool) -> (f64, f64) {
    let rough = if highest > 0.0 { highest / 4.0 } else { 0.25 };
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let step = if whole { step.max(1.0) } else { step };
    ((highest / step).ceil().max(1.0) * step, step)
}

fn y_tick(value: f64, top: f64) -> Tick {
    Tick {
        at: coordinate(FRAME.bottom - (FRAME.bottom - FRAME.top) * value / top),
        text: number(value),
        anchor: "end",
    }
}

fn x_tick(minutes: u64, range: Range) -> Tick {
    let share = 1.0 - (minutes * 60) as f64 / range.seconds() as f64;
    let (text, anchor) = match minutes {
        0 => ("now".to_owned(), "end"),
        _ if share <= 0.0 => (format!("\u{2212}{minutes} min"), "start"),
        _ => (format!("\u{2212}{minutes}"), "middle"),
    };
    Tick { at: coordinate(FRAME.left + (FRAME.right - FRAME.left) * share), text, anchor }
}

/// Values times `factor` are shares of the height.
fn path(values: &[Option<f64>], factor: f64) -> String {
    let step = (FRAME.right - FRAME.left) / values.len().max(1) as f64;
    let mut path = String::new();
    let mut before = false;
    for (idx, value) in values.iter().enumerate() {
        let Some(value) = value else {
            before = false;
            continue;
        };
        let x = FRAME.right - step * (values.len() - 1 - idx) as f64;
        let y = FRAME.bottom - (FRAME.bottom - FRAME.top) * (value * factor).clamp(0.0, 1.0);
        path.push_str(&format!("{}{} {}", if before { "L" } else { "M" }, coordinate(x), coordinate(y)));
        // a point alone is a line of no length, which its round ends show
        if !before {
            path.push_str("h0");
        }
        before = true;
    }
    path
}

fn sentence(spec: &PlotSpec, line: &Line, values: &[Option<f64>]) -> String {
    let known = || values.iter().flatten().copied();
    let Some(lowest) = known().reduce(f64::min) else {
        return format!("{}: no data yet.", line.label);
    };
    let highest = known().reduce(f64::max);
    format!(
        "{}: now {}, lowest {}, highest {}.",
        line.label,
        line.now,
        spec.unit.write(Some(lowest)),
        spec.unit.write(highest)
    )
}

/// Newest first, as one reads it; what has not been yet is left out.
fn table(spec: &PlotSpec, range: Range, rows: &[Option<Slot>]) -> Vec<Row> {
    let step = range.row();
    let ago = |idx: usize| {
        let seconds = idx as u64 * step;
        if step < 60 {
            format!("{seconds}\u{2013}{} s", seconds + step)
        } else {
            format!("{}\u{2013}{} min", seconds / 60, (seconds + step) / 60)
        }
    };
    let known = rows.iter().rev().enumerate().filter_map(|(idx, bin)| bin.as_ref().map(|bin| (idx, bin)));
    known
        .map(|(idx, bin)| Row {
            when: ago(idx),
            values: spec.lines.iter().map(|(_, measure)| spec.unit.write(measure(bin))).collect(),
        })
        .collect()
}

/// A tenth of a unit is less than a pixel.
fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}
