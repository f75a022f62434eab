//! The picture of a run: how times are distributed, and throughput over time.

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor;

use super::report::Report;
use super::stats::{histogram, percentile};

const SIZE: (u32, u32) = (1000, 720);
const BINS: usize = 60;
const BAR: RGBColor = RGBColor(86, 120, 185);
const MARK: RGBColor = RGBColor(190, 70, 60);
const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draw a run as SVG.
///
/// # Errors
/// Only if the drawing itself fails, which a report can not cause.
pub(super) fn draw(report: &Report) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        panels(report, &root).map_err(|error| anyhow!("cannot draw: {error}"))?;
    }
    Ok(svg)
}

fn panels(report: &Report, root: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
    root.fill(&WHITE)?;
    let root = root.titled(&report.title(), (FONT, 20))?;
    let (top, bottom) = root.split_vertically(330);
    let (left, right) = top.split_horizontally(SIZE.0 / 2);
    distribution(&left, "time to first token", report.ttft())?;
    distribution(&right, "inter-token latency", report.inter_token())?;
    throughput(&bottom, report)?;
    root.present()?;
    Ok(())
}

/// A histogram with the percentiles that matter. The axis ends a little after p99, so that one outlier does not
/// squeeze everything else; what lies beyond is in the last bar.
fn distribution(area: &Area<'_>, title: &str, seconds: &[f64]) -> Result<(), Box<dyn std::error::Error>> {
    let mut sorted: Vec<f64> = seconds.iter().map(|time| time * 1e3).collect();
    sorted.sort_by(f64::total_cmp);
    let Some(largest) = sorted.last().copied() else {
        area.titled(&format!("{title}: no samples"), (FONT, 16))?;
        return Ok(());
    };
    let end = (percentile(&sorted, 99.0) * 1.1).min(largest).max(1e-3);
    let counts = histogram(&sorted, end, BINS);
    let highest = counts.iter().copied().max().unwrap_or(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{title} (ms)"), (FONT, 16))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..end, 0.0..highest * 1.12)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(6)
        .y_labels(5)
        .label_style((FONT, 12))
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .draw()?;
    let width = end / BINS as f64;
    chart.draw_series(counts.iter().enumerate().map(|(bin, count)| {
        let from = bin as f64 * width;
        Rectangle::new([(from, 0.0), (from + width, *count as f64)], BAR.filled())
    }))?;
    for (level, percent) in [50.0, 90.0, 99.0].into_iter().enumerate() {
        let at = percentile(&sorted, percent).min(end);
        let top = highest * (1.1 - 0.09 * level as f64);
        chart.draw_series(LineSeries::new([(at, 0.0), (at, top)], MARK))?;
        let label = format!("p{percent} {}", short(percentile(&sorted, percent)));
        let style = TextStyle::from((FONT, 12)).color(&MARK);
        // Text that would leave the panel stands left of its line.
        let anchor = if at > end * 0.7 { "right" } else { "left" };
        let (x, style) = match anchor {
            "right" => (
                at - end * 0.01,
                style.pos(text_anchor::Pos::new(text_anchor::HPos::Right, text_anchor::VPos::Top)),
            ),
            _ => (at + end * 0.01, style),
        };
        chart.draw_series([Text::new(label, (x, top), style)])?;
    }
    Ok(())
}

/// Output tokens and finished requests per second, over the run.
fn throughput(area: &Area<'_>, report: &Report) -> Result<(), Box<dyn std::error::Error>> {
    let seconds = report.seconds().max(1e-3);
    let rates = token_rates(report, seconds);
    let highest = rates.iter().copied().fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("output tokens per second, over the run (s)", (FONT, 16))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..seconds, 0.0..highest * 1.1)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(10)
        .y_labels(6)
        .label_style((FONT, 12))
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .draw()?;
    let width = seconds / rates.len() as f64;
    let steps = rates
        .iter()
        .enumerate()
        .flat_map(|(bin, rate)| [(bin as f64 * width, *rate), ((bin + 1) as f64 * width, *rate)]);
    chart.draw_series(AreaSeries::new(steps, 0.0, BAR.mix(0.35)).border_style(BAR))?;
    Ok(())
}

/// Tokens per second in equal parts of the run. The tokens of an answer are spread evenly over its pieces of text.
fn token_rates(report: &Report, seconds: f64) -> Vec<f64> {
    let bins = (seconds.ceil() as usize).clamp(40, 200);
    let mut rates = vec![0.0; bins];
    for record in report.ok().filter(|record| !record.pieces.is_empty()) {
        let tokens = record.output_tokens as f64 / record.pieces.len() as f64;
        for piece in &record.pieces {
            let bin = (piece / seconds * bins as f64) as usize;
            rates[bin.min(bins - 1)] += tokens * bins as f64 / seconds;
        }
    }
    rates
}

/// A number with as many digits as an axis needs.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
