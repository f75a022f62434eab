//! Names of files as a listing gives them: only those that stay inside a folder.

/// A path below a folder, with `/` between its parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RelativePath(String);

/// Beginning of the names that we use ourselves.
pub(crate) const OWN: &str = ".vlinders-pull";
/// What we append while a file is fetched has to fit as well.
const LONGEST_PART: usize = 200;

// === impl RelativePath ===

impl RelativePath {
    /// Take a path that a listing names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(text: &str) -> Result<Self, &'static str> {
        if text.starts_with('/') || text.contains('\\') {
            return Err("is no path below a folder");
        }
        for part in text.split('/') {
            match part {
                "" | "." | ".." => return Err("would leave the folder of the model"),
                part if part.chars().any(char::is_control) => return Err("holds a control character"),
                part if part.starts_with(OWN) => return Err("has a name that the loader uses itself"),
                part if part.len() > LONGEST_PART => return Err("has too long a name"),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it lies in the folder itself, not in one below it.
    pub(crate) fn is_at_root(&self) -> bool {
        !self.0.contains('/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_would_leave_the_folder_is_refused() {
        for path in [
            "/etc/passwd",
            "../a",
            "a/../../b",
            "a/..",
            ".",
            "./a",
            "a//b",
            "",
            "a/",
            "a\\..\\b",
            "a\nb",
            "a\0b",
            ".vlinders-pull/a",
            ".vlinders-pull.json",
        ] {
            assert!(RelativePath::new(path).is_err(), "{path:?}");
        }
        for path in ["config.json", "a/b/c.json", ".gitattributes", "..a", "a..b/c"] {
            assert_eq!(RelativePath::new(path).unwrap().as_str(), path);
        }
    }
}
