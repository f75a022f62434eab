//! How numbers, times and stretches of time are written for people.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};

/// What is written where nothing is known.
pub(crate) const NOTHING: &str = "\u{2013}";

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Tokens in a second.
    TokensPerSecond,
    /// Seconds, written as ms below one.
    Seconds,
    /// Requests.
    Requests,
    /// A share from 0 to 1, written in per cent.
    Share,
}

// === impl Unit ===

impl Unit {
    /// The number with its unit.
    pub(crate) fn write(self, value: Option<f64>) -> String {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            return NOTHING.to_owned();
        };
        match self {
            Self::TokensPerSecond => format!("{} tok/s", number(value)),
            Self::Seconds if value < 0.9995 => format!("{} ms", number(value * 1000.0)),
            Self::Seconds => format!("{} s", number(value)),
            Self::Requests => number(value),
            Self::Share => format!("{} %", number(value * 100.0)),
        }
    }
}

/// Three digits that say something: 0.25, 2.5, 250, 12.5 k, 3.1 M.
pub(crate) fn number(value: f64) -> String {
    let (value, suffix) = match value.abs() {
        large if large >= 999_500.0 => (value / 1e6, "\u{a0}M"),
        large if large >= 9_995.0 => (value / 1e3, "\u{a0}k"),
        _ => (value, ""),
    };
    let decimals = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

/// A stretch of time in its two largest units: 850 ms, 12.3 s, 4 min 05 s, 3 h 12 min, 2 d 4 h.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{} s", (time.as_secs_f64() * 10.0).floor() / 10.0),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Time since `then`; none if the clock was set back.
pub(crate) fn since(then: SystemTime) -> Duration {
    then.elapsed().unwrap_or_default()
}

/// Date and time in UTC, for people.
pub(crate) fn moment(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Date and time in UTC without seconds, for people.
pub(crate) fn minute(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).format("%Y-%m-%d %H:%M").to_string()
}

/// Time in UTC, for people.
pub(crate) fn time_of_day(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).format("%H:%M:%S").to_string()
}

/// Date and time in UTC, for `<time datetime>`.
pub(crate) fn machine_moment(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A text inside a query parameter.
pub(crate) fn query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, expected) in [
            (0.0, "0"),
            (0.254, "0.25"),
            (2.5, "2.5"),
            (12.34, "12.3"),
            (9.999, "10"),
            (250.4, "250"),
            (1234.0, "1234"),
            (12_340.0, "12.3\u{a0}k"),
            (3_100_000.0, "3.1\u{a0}M"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn units_stand_behind_numbers() {
        assert_eq!(Unit::Seconds.write(Some(0.0123)), "12.3 ms");
        assert_eq!(Unit::Seconds.write(Some(1.5)), "1.5 s");
        assert_eq!(Unit::Seconds.write(Some(0.9999)), "1 s");
        assert_eq!(Unit::Share.write(Some(0.625)), "62.5 %");
        assert_eq!(Unit::Requests.write(None), "\u{2013}");
        assert_eq!(Unit::Requests.write(Some(f64::NAN)), "\u{2013}");
    }

    #[test]
    fn durations_have_two_units() {
        for (millis, expected) in [
            (850, "850 ms"),
            (12_340, "12.3 s"),
            (245_000, "4 min 05 s"),
            (11_520_000, "3 h 12 min"),
            (187_200_000, "2 d 4 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn nothing_in_a_query_ends_it() {
        assert_eq!(query("a/b &c\"\u{e4}"), "a%2Fb%20%26c%22%C3%A4");
    }
}
