//! How a configuration error reads: file, line, field, what was found, what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

/// Everything that is wrong with the configuration; at least one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError(pub(crate) Vec<Problem>);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where, if it is in a file.
    pub(crate) place: Option<Place>,
    /// The field, as it is spelled in the file, or the option.
    pub(crate) field: Option<String>,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it.
    pub(crate) remedy: String,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    /// Counted from 1; 0 when the whole file is meant.
    pub(crate) line: usize,
    /// Counted from 1.
    pub(crate) column: usize,
    /// Text of the line.
    pub(crate) text: String,
}

impl Problem {
    /// About no file: the command line or the environment.
    pub(crate) fn option(option: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: None, field: Some(option.to_owned()), found: found.into(), remedy: remedy.into() }
    }

    /// About a file as a whole.
    pub(crate) fn file(file: &Path, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let place = Place { file: file.to_owned(), line: 0, column: 0, text: String::new() };
        Self { place: Some(place), field: None, found: found.into(), remedy: remedy.into() }
    }
}

// === impl ConfigError ===

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, problem) in self.0.iter().enumerate() {
            if idx > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}", place.file.display())?;
            if place.line > 0 {
                write!(f, ":{}:{}", place.line, place.column)?;
            }
            f.write_str(": ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "`{field}`: ")?;
        }
        f.write_str(&self.found)?;
        if let Some(place) = self.place.as_ref().filter(|place| place.line > 0) {
            let margin = place.line.to_string();
            let blank = " ".repeat(margin.len());
            let indent = " ".repeat(place.column.saturating_sub(1));
            write!(f, "\n {blank} |\n {margin} | {}\n {blank} | {indent}^", place.text.trim_end())?;
        }
        write!(f, "\n  help: {}", self.remedy)
    }
}
