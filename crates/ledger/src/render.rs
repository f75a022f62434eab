//! Usage as text: for people, for spreadsheets, for programs.

use chrono::NaiveDate;

use crate::UsageRow;
use crate::usage::NUMBERS;

const KEYS: [&str; 3] = ["day", "consumer", "model"];
const GAP: &str = "  ";

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageFormat {
    /// Columns for people, with a line of totals.
    Table,
    /// RFC 4180, always with the same columns.
    Csv,
    /// An array of objects.
    Json,
}

/// Write `rows` as text that ends with a line break.
#[must_use]
pub fn render(rows: &[UsageRow], format: UsageFormat) -> String {
    match format {
        UsageFormat::Table => table(rows),
        UsageFormat::Csv => csv(rows),
        UsageFormat::Json => serde_json::to_string_pretty(rows).unwrap_or_default() + "\n",
    }
}

fn keys(row: &UsageRow) -> [Option<String>; 3] {
    [row.day.as_ref().map(NaiveDate::to_string), row.consumer.clone(), row.model.clone()]
}

fn table(rows: &[UsageRow]) -> String {
    if rows.is_empty() {
        return "no requests\n".to_owned();
    }
    // a column that no row has was not asked for
    let shown: Vec<usize> =
        (0..KEYS.len()).filter(|&idx| rows.iter().any(|row| keys(row)[idx].is_some())).collect();
    let mut lines = vec![shown.iter().map(|&idx| KEYS[idx].to_owned()).collect::<Vec<_>>()];
    lines[0].extend(NUMBERS.map(|name| name.replace('_', " ")));
    let mut totals = [0u64; NUMBERS.len()];
    for row in rows {
        let keys = keys(row);
        let mut line: Vec<_> = shown.iter().map(|&idx| printable(keys[idx].as_deref())).collect();
        for (total, number) in totals.iter_mut().zip(row.numbers()) {
            *total = total.saturating_add(number);
            line.push(number.to_string());
        }
        lines.push(line);
    }
    let mut last: Vec<_> = shown.iter().map(|_| String::new()).collect();
    if let Some(first) = last.first_mut() {
        "total".clone_into(first);
    }
    last.extend(totals.map(|total| total.to_string()));
    lines.push(last);
    aligned(&lines, shown.len())
}

/// Names to the left, numbers to the right; a rule under the names and above the totals.
fn aligned(lines: &[Vec<String>], names: usize) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let rule = "-".repeat(widths.iter().sum::<usize>() + GAP.len() * columns.saturating_sub(1)) + "\n";
    let mut out = String::new();
    for (idx, line) in lines.iter().enumerate() {
        if idx == 1 || idx + 1 == lines.len() {
            out.push_str(&rule);
        }
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column < names { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        out.push_str(&cells.collect::<Vec<_>>().join(GAP));
        out.push('\n');
    }
    out
}

/// A name that can not move the cursor.
fn printable(name: Option<&str>) -> String {
    let name = name.unwrap_or("-").chars();
    name.map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

fn csv(rows: &[UsageRow]) -> String {
    let mut out = KEYS.iter().chain(&NUMBERS).copied().collect::<Vec<_>>().join(",") + "\r\n";
    for row in rows {
        let names = keys(row).map(|name| quoted(&name.unwrap_or_default()));
        let fields = names.into_iter().chain(row.numbers().map(|number| number.to_string()));
        out.push_str(&fields.collect::<Vec<_>>().join(","));
        out.push_str("\r\n");
    }
    out
}

fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\r', '\n']) || field.starts_with(' ') || field.ends_with(' ') {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests;
