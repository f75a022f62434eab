//! How a model is called where names are lower-case letters, digits and dashes.

use std::collections::BTreeMap;
use std::fmt;

use crate::RenderError;

/// `worker-` and what controllers append have to fit into the 63 characters of a name.
const MAX_LEN: usize = 50;

/// The name of a model in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slug(String);

impl Slug {
    /// Lower case, with a dash for each run of other characters, at most 50 characters.
    ///
    /// # Errors
    /// Nothing of the name is left.
    pub fn of(name: &str) -> Result<Self, RenderError> {
        let lower = name.to_lowercase();
        let words = lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
        let mut slug = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
        slug.truncate(MAX_LEN);
        let slug = slug.trim_end_matches('-');
        match slug {
            "" => Err(RenderError::NoSlug(name.to_owned())),
            "kustomization" => Err(RenderError::Reserved(name.to_owned())),
            slug => Ok(Self(slug.to_owned())),
        }
    }

    /// One for each name.
    pub(crate) fn of_all<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<Self>, RenderError> {
        let mut taken = BTreeMap::<Self, &str>::new();
        let mut slugs = Vec::new();
        for name in names {
            let slug = Self::of(name)?;
            if let Some(first) = taken.insert(slug.clone(), name) {
                let (first, second) = (first.to_owned(), name.to_owned());
                return Err(RenderError::SlugTaken { slug: slug.0, first, second });
            }
            slugs.push(slug);
        }
        Ok(slugs)
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_characters_become_one_dash() {
        for (name, slug) in [
            ("llama-3-8b", "llama-3-8b"),
            ("Qwen/Qwen3-0.6B", "qwen-qwen3-0-6b"),
            ("  a__b  ", "a-b"),
            ("Größe", "gr-e"),
        ] {
            assert_eq!(Slug::of(name).unwrap().to_string(), slug, "{name}");
        }
    }

    #[test]
    fn long_names_are_cut_and_do_not_end_with_a_dash() {
        let slug = Slug::of(&format!("{}.b{}", "a".repeat(49), "c".repeat(60))).unwrap().to_string();
        assert_eq!(slug, "a".repeat(49));
        assert_eq!(Slug::of(&"x".repeat(80)).unwrap().to_string().len(), 50);
    }

    #[test]
    fn names_that_nothing_is_left_of_and_names_that_become_one_are_errors() {
        assert!(matches!(Slug::of("模型"), Err(RenderError::NoSlug(_))));
        assert!(matches!(Slug::of("Kustomization"), Err(RenderError::Reserved(_))));
        let error = Slug::of_all(["llama.3", "other", "LLAMA_3"].into_iter()).unwrap_err().to_string();
        assert!(error.contains("'llama.3' and 'LLAMA_3' would both be called `llama-3`"), "{error}");
    }
}
