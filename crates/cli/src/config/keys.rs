//! API keys from files and from the environment. They never appear in errors or logs.

use std::path::Path;

use super::problem::Problem;

/// Keys that clients may use: one a line of `file`, and those of `VLINDERS_API_KEYS`. None: no key is asked for.
pub(crate) fn server_keys(file: Option<&Path>) -> Result<Vec<String>, Problem> {
    let mut keys = Vec::new();
    if let Some(file) = file {
        keys = read(file)?;
        if keys.is_empty() {
            let remedy = "write one key a line; lines that begin with # are comments";
            return Err(Problem::file(file, "holds no API key, so nobody could get in", remedy));
        }
    }
    #[allow(clippy::disallowed_methods, reason = "this is the room that may read the environment")]
    if let Ok(value) = std::env::var("VLINDERS_API_KEYS") {
        keys.extend(value.split(',').map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned));
    }
    Ok(keys)
}

/// The key a client sends: the first of `file`, else that of `VLINDERS_API_KEY`.
pub(crate) fn first_key(file: Option<&Path>) -> Result<Option<String>, Problem> {
    if let Some(file) = file {
        let first = read(file)?.into_iter().next();
        return first
            .map(Some)
            .ok_or_else(|| Problem::file(file, "holds no API key", "write the key on its first line"));
    }
    secret(None, "VLINDERS_API_KEY")
}

/// The text of `file`, else of the variable `name`: a secret, which never appears in errors or logs.
pub(crate) fn secret(file: Option<&Path>, name: &str) -> Result<Option<String>, Problem> {
    let Some(file) = file else {
        #[allow(clippy::disallowed_methods, reason = "this is the room that may read the environment")]
        let secret = std::env::var(name).ok();
        return Ok(secret.map(|secret| secret.trim().to_owned()).filter(|secret| !secret.is_empty()));
    };
    let text = std::fs::read_to_string(file).map_err(|error| {
        Problem::file(file, format!("cannot be read: {error}"), "check path and permissions")
    })?;
    match text.trim() {
        "" => Err(Problem::file(
            file,
            "is empty",
            format!("write the secret, or leave the file out and set {name}"),
        )),
        secret => Ok(Some(secret.to_owned())),
    }
}

fn read(file: &Path) -> Result<Vec<String>, Problem> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Problem::file(file, format!("cannot be read: {error}"), "check path and permissions")
    })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_no_keys() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        std::fs::write(&file, "# team a\n  sk-one \n\nsk-two\n").unwrap();
        assert_eq!(read(&file).unwrap(), ["sk-one", "sk-two"]);
        std::fs::write(&file, "# nobody\n").unwrap();
        assert!(server_keys(Some(&file)).unwrap_err().to_string().contains("holds no API key"));
    }
}
