//! Which public keys may be pinned: RSA, 2048 to 8192 bits, an odd exponent of 3 or more, and nothing private.

use jsonwebtoken::DecodingKey;

use crate::error::ConsumersError;

const MAX_KEYS: usize = 8;
const MIN_BITS: usize = 2048;
const MAX_BITS: usize = 8192;
/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

/// All keys of a text in PEM, in their order; what stands between them is a comment.
pub(super) fn parse(text: &str) -> Result<Vec<DecodingKey>, ConsumersError> {
    let blocks: Vec<_> = text.split("-----BEGIN ").skip(1).collect();
    if !(1..=MAX_KEYS).contains(&blocks.len()) {
        return Err(ConsumersError::NumPublicKeys(blocks.len()));
    }
    let numbered = blocks.iter().zip(1..);
    numbered
        .map(|(block, number)| key(block).map_err(|reason| ConsumersError::PublicKey { number, reason }))
        .collect()
}

fn key(block: &str) -> Result<DecodingKey, &'static str> {
    if !(block.starts_with("PUBLIC KEY-----") || block.starts_with("RSA PUBLIC KEY-----")) {
        return Err("expected a public key in PEM, not a private key, a certificate or anything else");
    }
    const DAMAGED: &str = "it is not a public RSA key, or damaged";
    let key = DecodingKey::from_rsa_pem(format!("-----BEGIN {block}").as_bytes()).map_err(|_| DAMAGED)?;
    let (modulus, exponent) = numbers(key.try_get_as_bytes().map_err(|_| DAMAGED)?).ok_or(DAMAGED)?;
    let bits = 8 * modulus.len() - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !(MIN_BITS..=MAX_BITS).contains(&bits) {
        return Err("it must have 2048 to 8192 bits");
    }
    if !matches!(exponent, [1, 0, 1] | [3] | [17]) {
        return Err("its exponent must be 65537 (17 and 3 are taken too)");
    }
    Ok(key)
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017, A.1.1), without leading zeros.
fn numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (inner, rest) = value(der, SEQUENCE)?;
    let (modulus, inner) = value(inner, INTEGER)?;
    let (exponent, end) = value(inner, INTEGER)?;
    (rest.is_empty() && end.is_empty()).then(|| (trimmed(modulus), trimmed(exponent)))
}

fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// The contents of the first value of `der`, which must have this tag, and what follows it.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = der.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match usize::from(length) {
        short @ 0..=0x7f => (short, rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    rest.split_at_checked(length)
}
