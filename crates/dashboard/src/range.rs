//! How far back plots reach, and how finely.

/// A stretch of time up to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    FiveMinutes,
    QuarterHour,
    Hour,
}

// === impl Range ===

impl Range {
    pub(crate) const ALL: [Self; 3] = [Self::FiveMinutes, Self::QuarterHour, Self::Hour];

    /// From a query parameter.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|range| range.name() == text)
    }

    /// As a query parameter.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FiveMinutes => "5m",
            Self::QuarterHour => "15m",
            Self::Hour => "1h",
        }
    }

    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::FiveMinutes => "5 min",
            Self::QuarterHour => "15 min",
            Self::Hour => "1 h",
        }
    }

    pub(crate) fn seconds(self) -> u64 {
        match self {
            Self::FiveMinutes => 300,
            Self::QuarterHour => 900,
            Self::Hour => 3600,
        }
    }

    /// Seconds of one point of a plot.
    pub(crate) fn step(self) -> u64 {
        match self {
            Self::FiveMinutes => 5,
            Self::QuarterHour => 10,
            Self::Hour => 30,
        }
    }

    /// Seconds of one row of the table beside a plot.
    pub(crate) fn row(self) -> u64 {
        match self {
            Self::FiveMinutes => 30,
            Self::QuarterHour => 60,
            Self::Hour => 300,
        }
    }

    /// Minutes ago that get a tick below a plot.
    pub(crate) fn ticks(self) -> &'static [u64] {
        match self {
            Self::FiveMinutes => &[5, 4, 3, 2, 1, 0],
            Self::QuarterHour => &[15, 10, 5, 0],
            Self::Hour => &[60, 45, 30, 15, 0],
        }
    }
}
