//! Where the database is: a secret, of which everything but the password may be shown.

use std::fmt;
use std::str::FromStr;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use crate::LedgerError;

/// What stands where a password stood.
const HIDDEN: &str = "***";

/// A checked `postgres://user:password@host:port/name?sslmode=…`. Neither `Debug` nor `Display` shows the password.
#[derive(Clone)]
pub struct DatabaseUrl {
    options: PgConnectOptions,
    /// The password, as it is written in the URL and as it is.
    secrets: Vec<String>,
}

// === impl DatabaseUrl ===

impl DatabaseUrl {
    pub(crate) fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// An error as a text without the password, whoever wrote it there.
    pub(crate) fn explain(&self, error: &dyn fmt::Display) -> String {
        let mut text = error.to_string();
        for secret in &self.secrets {
            text = text.replace(secret, HIDDEN);
        }
        text
    }
}

impl FromStr for DatabaseUrl {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let text = text.trim();
        let wrong = |reason: &str| LedgerError::Url(reason.to_owned());
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let rest = rest.ok_or_else(|| wrong("does not begin with postgres://"))?;
        let secrets = secrets(rest);
        // What the parser says may quote a part of the URL, so it is not repeated.
        let options = PgConnectOptions::from_str(text).map_err(|_| {
            wrong("cannot be read; characters other than letters and digits in user or password are written as %XX")
        })?;
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        if place.starts_with(['/', ':', '?']) && !rest.contains("host=") || place.is_empty() {
            return Err(wrong("names no host"));
        }
        if options.get_database().is_none_or(str::is_empty) {
            return Err(wrong("names no database"));
        }
        let options = options.application_name("vlinders").disable_statement_logging();
        Ok(Self { options, secrets })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let name = options.get_database().unwrap_or_default();
        write!(
            f,
            "postgres://{}@{}:{}/{name}",
            options.get_username(),
            options.get_host(),
            options.get_port()
        )
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The password of what follows `postgres://`, escaped and plain.
fn secrets(rest: &str) -> Vec<String> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let user = place.rsplit_once('@').map_or("", |(user, _)| user);
    let of_user = user.split_once(':').map(|(_, password)| password);
    let of_query = query.split('&').filter_map(|part| part.strip_prefix("password="));
    let written = of_user.into_iter().chain(of_query).filter(|secret| !secret.is_empty());
    let mut secrets: Vec<_> = written.flat_map(|secret| [secret.to_owned(), unescaped(secret)]).collect();
    // the longest first: the plain one may be a part of the escaped one
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

/// `%XX` as the byte it stands for.
fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut idx) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(idx) {
        let digits = bytes.get(idx + 1..idx + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| byte == b'%') {
            Some(escaped) => (out.push(escaped), idx += 3),
            None => (out.push(byte), idx += 1),
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for text in [
            "postgres://billing:s3cret%21x@db.example:5433/usage",
            "postgresql://billing@db.example:5433/usage?password=s3cret%21x",
        ] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!(
                format!("{url:?} {url}"),
                "postgres://billing@db.example:5433/usage ".repeat(2).trim()
            );
            let error = std::io::Error::other("refused s3cret!x as s3cret%21x");
            assert_eq!(url.explain(&error), "refused *** as ***");
        }
    }

    #[test]
    fn what_can_not_be_a_database_is_refused_without_quoting_it() {
        for text in [
            "mysql://u:s3cret@h/d",
            "postgres://u:s3cret@h",
            "postgres://u:s3cret@h:99999999/d",
            "postgres://u:s3cret@/d",
            "postgres://u:s3cret@h/d?sslmode=s3cret",
            "s3cret",
            "",
        ] {
            let error = DatabaseUrl::from_str(text).unwrap_err().to_string();
            assert!(error.contains("postgres://user:password@host") && !error.contains("s3cret"), "{error}");
        }
    }
}
