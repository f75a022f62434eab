//! Attacks on tokens, each with the answer it gets.

use std::process::{Command, Stdio};
use std::sync::LazyLock;

use jsonwebtoken::get_current_timestamp as now;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use serde_json::json;

use super::*;

struct Issuer {
    private: RsaKeyPair,
    private_pem: String,
    public_pem: String,
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| Issuer::new(2048));
static OTHER: LazyLock<Issuer> = LazyLock::new(|| Issuer::new(2048));

impl Issuer {
    fn new(bits: u32) -> Self {
        let bits = format!("rsa_keygen_bits:{bits}");
        let private_pem = openssl(&["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", &bits], "");
        let public_pem = openssl(&["pkey", "-pubout"], &private_pem);
        let body: String = private_pem.lines().filter(|line| !line.starts_with('-')).collect();
        let private = RsaKeyPair::from_pkcs8(&unbase64(&body)).expect("a private key");
        Self { private, private_pem, public_pem }
    }

    fn sign(&self, encoding: &'static dyn RsaEncoding, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let mut signature = vec![0; self.private.public().modulus_len()];
        let random = SystemRandom::new();
        self.private.sign(encoding, &random, message.as_bytes(), &mut signature).expect("a signature");
        format!("{message}.{}", base64url(&signature))
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        self.sign(&RSA_PKCS1_SHA256, header, claims)
    }
}

/// Text in, text out.
fn openssl(args: &[&str], input: &str) -> String {
    use std::io::Write as _;
    let mut command = Command::new("openssl");
    let command = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("openssl; install the package openssl");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("openssl reads");
    let output = child.wait_with_output().expect("openssl ends");
    assert!(output.status.success(), "openssl {args:?}");
    String::from_utf8(output.stdout).expect("text")
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0_usize, |all, byte| all << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            text.push(char::from(DIGITS[group >> (18 - 6 * digit) & 63]));
        }
    }
    text
}

fn unbase64(text: &str) -> Vec<u8> {
    let url = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
    let digits = url.bytes().map(|digit| DIGITS.iter().position(|known| *known == digit).expect("a digit"));
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0, 0_usize);
    for digit in digits {
        (held, bits) = (held << 6 | digit, bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 255).expect("a byte"));
        }
    }
    bytes
}

fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()))
}

fn header() -> Value {
    json!({"alg": "RS256", "typ": "JWT"})
}

/// Good claims with `changes`; null takes a claim away.
fn claims(changes: Value) -> Value {
    let mut claims = json!({"sub": "alice", "aud": "vlinders", "iss": "https://issuer", "exp": now() + 600});
    for (name, value) in changes.as_object().expect("an object") {
        let all = claims.as_object_mut().expect("an object");
        all.insert(name.clone(), value.clone());
        if value.is_null() {
            all.remove(name);
        }
    }
    claims
}

fn rules() -> JwtRules {
    JwtRules { issuers: vec!["https://issuer".to_owned()], ..JwtRules::new("vlinders") }
}

/// `Ok(consumer)` or `Err(code)`. Every refusal is 401 and repeats no part of the token.
fn answer_with(verifier: &JwtVerifier, token: &str) -> Result<String, &'static str> {
    verifier.verify(token).map(|consumer| consumer.id().to_owned()).map_err(|error| {
        assert_eq!(error.kind().status(), 401);
        let shown = serde_json::to_string(&error.body()).expect("json");
        assert!(token.split('.').filter(|part| part.len() > 6).all(|part| !shown.contains(part)), "{shown}");
        error.code().expect("a code")
    })
}

fn answer(token: &str) -> Result<String, &'static str> {
    answer_with(&JwtVerifier::new(&ISSUER.public_pem, &rules()).expect("a verifier"), token)
}

#[test]
fn tokens_as_they_should_be_name_their_consumer() {
    let cases = [
        ("plain", json!({})),
        ("several audiences", json!({"aud": ["other", "vlinders"]})),
        ("expired within leeway", json!({"exp": now() - 10})),
        ("valid soon, within leeway", json!({"nbf": now() + 10})),
        ("valid since long", json!({"nbf": now() - 1000})),
        ("a fraction", json!({"exp": now() as f64 + 99.5})),
    ];
    for (case, changes) in cases {
        assert_eq!(answer(&ISSUER.token(&header(), &claims(changes))).as_deref(), Ok("alice"), "{case}");
    }
    let hints =
        json!({"alg": "RS256", "kid": "../../dev/null", "jku": "https://evil", "x5u": "https://evil"});
    assert_eq!(
        answer(&ISSUER.token(&hints, &claims(json!({})))).as_deref(),
        Ok("alice"),
        "hints are ignored"
    );
}

#[test]
fn attacks_on_claims_are_refused() {
    let cases = [
        ("no exp", json!({"exp": null}), "invalid_token"),
        ("expired", json!({"exp": now() - 31}), "token_expired"),
        ("expired long ago", json!({"exp": 0}), "token_expired"),
        ("exp as text", json!({"exp": "9999999999"}), "invalid_token"),
        ("negative exp", json!({"exp": -1}), "invalid_token"),
        ("exp beyond numbers", json!({"exp": 1e300}), "invalid_token"),
        ("nbf in the future", json!({"nbf": now() + 60}), "token_not_yet_valid"),
        ("nbf as text", json!({"nbf": "0"}), "invalid_token"),
        ("no aud", json!({"aud": null}), "invalid_audience"),
        ("wrong aud", json!({"aud": "vlinders2"}), "invalid_audience"),
        ("empty auds", json!({"aud": []}), "invalid_audience"),
        ("wrong auds", json!({"aud": ["a", "b"]}), "invalid_audience"),
        ("aud as number", json!({"aud": 1}), "invalid_audience"),
        ("no iss", json!({"iss": null}), "invalid_issuer"),
        ("wrong iss", json!({"iss": "https://issuer/"}), "invalid_issuer"),
        ("iss as object", json!({"iss": {"a": 1}}), "invalid_issuer"),
        ("no sub", json!({"sub": null}), "invalid_consumer"),
        ("empty sub", json!({"sub": ""}), "invalid_consumer"),
        ("sub as number", json!({"sub": 7}), "invalid_consumer"),
        ("sub as list", json!({"sub": ["alice"]}), "invalid_token"),
        ("sub with a line break", json!({"sub": "alice\nadmin"}), "invalid_consumer"),
        ("sub with a space", json!({"sub": "alice "}), "invalid_consumer"),
        ("sub beyond ASCII", json!({"sub": "\u{202e}ecila"}), "invalid_consumer"),
        ("sub too long", json!({"sub": "x".repeat(129)}), "invalid_consumer"),
        ("sub of nobody", json!({"sub": "anonymous"}), "invalid_consumer"),
        ("oversized", json!({"x": "x".repeat(8 << 10)}), "invalid_token"),
    ];
    for (attack, changes, expected) in cases {
        assert_eq!(answer(&ISSUER.token(&header(), &claims(changes))), Err(expected), "{attack}");
    }
}

#[test]
fn attacks_on_signatures_and_headers_are_refused() {
    let good = claims(json!({}));
    let token = ISSUER.token(&header(), &good);
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let (head, payload) = signed.split_once('.').expect("two parts");
    let none = |alg: &str| format!("{}.", message(&json!({"alg": alg}), &good));
    let hs256 = |secret: &str| {
        let message = message(&json!({"alg": "HS256"}), &good);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
        format!("{message}.{}", base64url(tag.as_ref()))
    };
    let of = |header: Value| ISSUER.token(&header, &good);
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let cases = [
        ("alg none", none("none"), "invalid_token"),
        ("alg None", none("None"), "invalid_token"),
        ("alg RS256 without signature", none("RS256"), "invalid_signature"),
        (
            "alg none with signature",
            format!("{}.{payload}.{signature}", base64url(br#"{"alg":"none"}"#)),
            "invalid_token",
        ),
        ("HS256 with the public key", hs256(&ISSUER.public_pem), "invalid_token"),
        ("HS256 with the trimmed public key", hs256(ISSUER.public_pem.trim()), "invalid_token"),
        ("HS256 with nothing", hs256(""), "invalid_token"),
        ("RS384", ISSUER.sign(&RSA_PKCS1_SHA384, &json!({"alg": "RS384"}), &good), "invalid_token"),
        ("RS384 that says RS256", ISSUER.sign(&RSA_PKCS1_SHA384, &header(), &good), "invalid_signature"),
        ("PS256", ISSUER.sign(&RSA_PSS_SHA256, &json!({"alg": "PS256"}), &good), "invalid_token"),
        ("PSS that says RS256", ISSUER.sign(&RSA_PSS_SHA256, &header(), &good), "invalid_signature"),
        ("other key", OTHER.token(&header(), &good), "invalid_signature"),
        ("other key, expired", OTHER.token(&header(), &claims(json!({"exp": 1}))), "invalid_signature"),
        (
            "its own key in jwk",
            OTHER.token(&json!({"alg": "RS256", "x5c": ["MIIB"]}), &good),
            "invalid_signature",
        ),
        (
            "claims of another token",
            format!(
                "{head}.{}.{signature}",
                base64url(claims(json!({"sub": "admin"})).to_string().as_bytes())
            ),
            "invalid_signature",
        ),
        ("flipped digit", format!("{signed}.{flipped}{}", &signature[1..]), "invalid_signature"),
        ("short signature", format!("{signed}.{}", &signature[..340]), "invalid_signature"),
        ("no signature", signed.to_owned(), "invalid_token"),
        (
            "truncated claims",
            format!("{head}.{}.{signature}", &payload[..payload.len() / 2]),
            "invalid_signature",
        ),
        ("four parts", format!("{token}.x"), "invalid_token"),
        ("crit", of(json!({"alg": "RS256", "crit": ["exp"]})), "invalid_token"),
        ("crit b64", of(json!({"alg": "RS256", "crit": ["b64"], "b64": false})), "invalid_token"),
        ("empty crit", of(json!({"alg": "RS256", "crit": []})), "invalid_token"),
        ("no alg", of(json!({"typ": "JWT"})), "invalid_token"),
        ("alg as list", of(json!({"alg": ["RS256"]})), "invalid_token"),
        ("header no object", of(json!("RS256")), "invalid_token"),
        ("claims no object", ISSUER.token(&header(), &json!(["alice"])), "invalid_token"),
        ("padding", format!("{token}=="), "invalid_token"),
        ("empty", String::new(), "invalid_token"),
        ("dots", "..".to_owned(), "invalid_token"),
        ("a key", "sk-1234".to_owned(), "invalid_token"),
        ("8 KiB of dots", ".".repeat(9 << 10), "invalid_token"),
    ];
    for (attack, token, expected) in cases {
        assert_eq!(answer(&token), Err(expected), "{attack}");
    }
}

#[test]
fn keys_can_be_rotated_and_the_claim_chosen() {
    let pem = format!("new\n{}old\n{}", OTHER.public_pem, ISSUER.public_pem);
    let verifier =
        JwtVerifier::new(&pem, &JwtRules { consumer_claim: "team".to_owned(), ..rules() }).expect("keys");
    let good = claims(json!({"team": "blue"}));
    for issuer in [&*ISSUER, &*OTHER] {
        assert_eq!(answer_with(&verifier, &issuer.token(&header(), &good)).as_deref(), Ok("blue"));
        let late = claims(json!({"team": "blue", "exp": 1}));
        assert_eq!(answer_with(&verifier, &issuer.token(&header(), &late)), Err("token_expired"));
    }
    let third = Issuer::new(2048).token(&header(), &good);
    assert_eq!(answer_with(&verifier, &third), Err("invalid_signature"));
    assert_eq!(answer_with(&verifier, &OTHER.token(&header(), &claims(json!({})))), Err("invalid_consumer"));
}

#[test]
fn keys_that_prove_nothing_are_refused() {
    let weak = openssl(&["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], "");
    let weak = openssl(&["pkey", "-pubout"], &weak);
    let almost = openssl(&["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2040"], "");
    let almost = openssl(&["pkey", "-pubout"], &almost);
    let curve =
        openssl(&["genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "");
    let curve = openssl(&["pkey", "-pubout"], &curve);
    let cases = [
        ("1024 bits", weak.clone(), "public key 1 of"),
        ("2040 bits", almost, "public key 1 of"),
        ("weak beside strong", format!("{}{weak}", ISSUER.public_pem), "public key 2 of"),
        ("an elliptic curve", curve, "public key 1 of"),
        ("a private key", ISSUER.private_pem.clone(), "public key 1 of"),
        ("cut short", ISSUER.public_pem[..200].to_owned(), "public key 1 of"),
        ("nothing", String::new(), "the issuer of tokens needs 1 to 8"),
        ("too many", ISSUER.public_pem.repeat(9), "the issuer of tokens needs 1 to 8"),
    ];
    for (case, pem, expected) in cases {
        let error = JwtVerifier::new(&pem, &rules()).expect_err(case).to_string();
        assert!(error.starts_with(expected), "{case}: {error}");
    }
    let pkcs1 = openssl(&["rsa", "-RSAPublicKey_out"], &ISSUER.private_pem);
    JwtVerifier::new(&pkcs1, &rules()).expect("the older form of public keys");
    let nobody = JwtRules { audiences: Vec::new(), ..rules() };
    assert!(matches!(JwtVerifier::new(&ISSUER.public_pem, &nobody), Err(ConsumersError::NoAudience)));
}
