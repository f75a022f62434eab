//! Which files of a source are fetched: what a server needs, or what was asked for.

use crate::glob::matches;
use crate::path::RelativePath;

/// What our server and others read of a Hugging Face folder.
const NEEDED: [&str; 14] = [
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "*.jinja",
    "LICENSE*",
];
/// The same weights once more, in the form of another program.
const DOUBLES: &str = "consolidated*.safetensors";

/// Which files are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    /// A GGUF file instead of a folder.
    gguf: Option<String>,
    include: Vec<String>,
    exclude: Vec<String>,
}

// === impl Selection ===

impl Selection {
    pub(crate) fn new(gguf: Option<&str>, include: &[String], exclude: &[String]) -> Self {
        Self { gguf: gguf.map(str::to_owned), include: include.to_vec(), exclude: exclude.to_vec() }
    }

    /// Whether a file is fetched.
    pub(crate) fn takes(&self, path: &RelativePath) -> bool {
        let is_one_of = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, path.as_str()));
        let wanted = match &self.gguf {
            Some(gguf) => is_part_of(gguf, path),
            None if self.include.is_empty() => {
                NEEDED.iter().any(|pattern| matches(pattern, path.as_str()))
                    && !matches(DOUBLES, path.as_str())
            }
            None => is_one_of(&self.include),
        };
        wanted && !is_one_of(&self.exclude)
    }

    /// What is missing of that without which a server can not start, of these files.
    pub(crate) fn lacks<'a>(
        &self,
        mut paths: impl Iterator<Item = &'a RelativePath> + Clone,
    ) -> Option<String> {
        let has_any = paths.clone().next().is_some();
        if let Some(gguf) = &self.gguf {
            return (!has_any).then(|| format!("file {gguf}"));
        }
        if !self.include.is_empty() {
            return (!has_any).then(|| format!("file like {}", self.include.join(", ")));
        }
        if !paths.clone().any(|path| path.as_str() == "config.json") {
            return Some("config.json".to_owned());
        }
        (!paths.any(|path| path.as_str().ends_with(".safetensors"))).then(|| "*.safetensors".to_owned())
    }

    /// One line that says what was selected, to tell a record of another selection.
    pub(crate) fn line(&self) -> String {
        let (gguf, include) = (self.gguf.as_deref().unwrap_or_default(), self.include.join(","));
        format!("file={gguf} include={include} exclude={}", self.exclude.join(","))
    }
}

/// The file itself, or with `a-00001-of-00003.gguf` all three.
fn is_part_of(gguf: &str, path: &RelativePath) -> bool {
    let Some(name) = path.as_str().rsplit('/').next().filter(|_| path.is_at_root()) else { return false };
    match (split(gguf), split(name)) {
        (Some(wanted), Some(part)) => wanted == part,
        _ => gguf == name,
    }
}

/// `a-00002-of-00003.gguf` gives `a` and 3.
fn split(name: &str) -> Option<(&str, &str)> {
    let is_number = |text: &str| text.len() == 5 && text.chars().all(|c| c.is_ascii_digit());
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, part) = rest.rsplit_once('-')?;
    (is_number(count) && is_number(part)).then_some((stem, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(selection: &Selection, paths: &[&str]) -> Vec<String> {
        let paths = paths.iter().map(|path| RelativePath::new(path).unwrap());
        paths.filter(|path| selection.takes(path)).map(|path| path.as_str().to_owned()).collect()
    }

    #[test]
    fn a_folder_without_what_no_server_reads() {
        let all = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "original/consolidated.00.pth",
            "original/model.safetensors",
            "consolidated.safetensors",
            "README.md",
            "chat_template.jinja",
            "model-Q4_K_M.gguf",
            ".gitattributes",
            "onnx/model.onnx",
        ];
        let selection = Selection::new(None, &[], &[]);
        let wanted = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "chat_template.jinja",
        ];
        assert_eq!(taken(&selection, &all), wanted);
        let asked = Selection::new(None, &["**.pth".to_owned(), "*.json".to_owned()], &["model*".to_owned()]);
        assert_eq!(taken(&asked, &all), ["config.json", "original/consolidated.00.pth"]);
    }

    #[test]
    fn of_a_split_gguf_all_parts_and_nothing_else() {
        let all = [
            "a-Q8_0-00001-of-00002.gguf",
            "a-Q8_0-00002-of-00002.gguf",
            "a-Q4_0-00001-of-00002.gguf",
            "a-Q8_0.gguf",
            "config.json",
            "sub/a-Q8_0.gguf",
        ];
        let split = Selection::new(Some("a-Q8_0-00001-of-00002.gguf"), &[], &[]);
        assert_eq!(taken(&split, &all), all[..2]);
        assert_eq!(taken(&Selection::new(Some("a-Q8_0.gguf"), &[], &[]), &all), ["a-Q8_0.gguf"]);
    }

    #[test]
    fn what_a_server_can_not_do_without_is_missed() {
        let path = |text| RelativePath::new(text).unwrap();
        let folder = Selection::new(None, &[], &[]);
        let (config, weights) = (path("config.json"), path("a.safetensors"));
        assert_eq!(folder.lacks([&config, &weights].into_iter()), None);
        assert_eq!(folder.lacks([&config].into_iter()).unwrap(), "*.safetensors");
        assert_eq!(folder.lacks([&weights].into_iter()).unwrap(), "config.json");
        assert_eq!(Selection::new(Some("a.gguf"), &[], &[]).lacks([].into_iter()).unwrap(), "file a.gguf");
    }
}
