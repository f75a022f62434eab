//! Spoofed and genuine headers of a gateway.

use super::*;

const OLD: &str = "0123456789abcdef";
const NEW: &str = "fedcba9876543210";

type Headers<'a> = &'a [(&'static str, &'a str)];

fn answer(headers: Headers<'_>) -> Result<Option<String>, &'static str> {
    let gateway = TrustedGateway::parse(&format!("# old\n{OLD}\n{NEW}\n")).expect("secrets");
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    let consumer = gateway.identify(&map).map_err(|error| {
        assert_eq!(error.kind().status(), 401);
        error.code().expect("a code")
    })?;
    Ok(consumer.map(|consumer| format!("{} by {}", consumer.id(), consumer.source().as_str())))
}

#[test]
fn who_knows_a_secret_names_the_consumer() {
    let secret = ("x-internal-secret", NEW);
    let expected = Ok(Some("alice by gateway".to_owned()));
    assert_eq!(answer(&[secret, ("x-consumer-username", "alice")]), expected);
    assert_eq!(answer(&[("x-internal-secret", OLD), ("x-consumer-username", "alice")]), expected);
    assert_eq!(answer(&[secret, ("x-consumer-username", "alice"), ("x-consumer-custom-id", "7")]), expected);
    assert_eq!(answer(&[secret, ("x-consumer-custom-id", "alice")]), expected);
    assert_eq!(answer(&[secret, ("x-credential-identifier", "alice")]), expected);
    let anonymous = [secret, ("x-anonymous-consumer", "true"), ("x-consumer-username", "guest")];
    assert_eq!(answer(&anonymous), Ok(Some("anonymous by anonymous".to_owned())));
    assert_eq!(answer(&[]), Ok(None));
    assert_eq!(answer(&[("authorization", "Bearer x")]), Ok(None));
}

#[test]
fn who_does_not_is_refused() {
    let secret = ("x-internal-secret", NEW);
    let long = "x".repeat(129);
    let cases: &[(&str, Headers<'_>, &str)] = &[
        ("no secret", &[("x-consumer-username", "admin")], "untrusted_gateway"),
        ("no secret, custom id", &[("x-consumer-custom-id", "1")], "untrusted_gateway"),
        ("no secret, credential", &[("x-credential-identifier", "1")], "untrusted_gateway"),
        ("no secret, anonymous", &[("x-anonymous-consumer", "true")], "untrusted_gateway"),
        ("wrong secret alone", &[("x-internal-secret", "wrong")], "untrusted_gateway"),
        ("empty secret", &[("x-internal-secret", ""), ("x-consumer-username", "a")], "untrusted_gateway"),
        ("a comment as secret", &[("x-internal-secret", "# old")], "untrusted_gateway"),
        (
            "a prefix",
            &[("x-internal-secret", "0123456789abcde"), ("x-consumer-username", "a")],
            "untrusted_gateway",
        ),
        (
            "both secrets",
            &[secret, ("x-internal-secret", OLD), ("x-consumer-username", "a")],
            "duplicate_header",
        ),
        (
            "right and wrong",
            &[secret, ("x-internal-secret", "no"), ("x-consumer-username", "a")],
            "duplicate_header",
        ),
        (
            "two names",
            &[secret, ("x-consumer-username", "a"), ("x-consumer-username", "b")],
            "duplicate_header",
        ),
        ("no name", &[secret], "missing_consumer"),
        ("empty name", &[secret, ("x-consumer-username", "")], "invalid_consumer"),
        ("long name", &[secret, ("x-consumer-username", &long)], "invalid_consumer"),
        ("name with a space", &[secret, ("x-consumer-username", "a b")], "invalid_consumer"),
        ("name beyond ASCII", &[secret, ("x-consumer-username", "\u{e4}")], "invalid_consumer"),
        ("name of nobody", &[secret, ("x-consumer-username", "anonymous")], "invalid_consumer"),
        (
            "odd anonymity",
            &[secret, ("x-anonymous-consumer", "yes"), ("x-consumer-username", "a")],
            "invalid_consumer",
        ),
    ];
    for (attack, headers, expected) in cases {
        assert_eq!(answer(headers), Err(*expected), "{attack}");
    }
}

#[test]
fn guessable_secrets_are_refused_and_none_is_shown() {
    let error = TrustedGateway::parse("# old\nshort").expect_err("refused").to_string();
    assert!(error.starts_with("line 2 ") && !error.contains("short"), "{error}");
    assert!(TrustedGateway::parse("# nothing").is_err());
    assert!(!format!("{:?}", TrustedGateway::parse(OLD).expect("a secret")).contains(OLD));
}
