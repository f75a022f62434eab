//! AWS Signature Version 4 of a presigned request, computed again as its documentation says it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::server::{Seen, percent_decoded};
use crate::support::sha256;

/// The signature that such a request must have.
pub(crate) fn expected(seen: &Seen, raw_path: &str, secret: &str) -> Result<String, String> {
    let mut parameters: Vec<&str> =
        seen.query.split('&').filter(|part| !part.starts_with("X-Amz-Signature=")).collect();
    parameters.sort_unstable();
    let value = |name: &str| {
        let found = parameters.iter().find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.map(percent_decoded).ok_or_else(|| format!("{name} is missing"))
    };
    if value("X-Amz-Algorithm")? != "AWS4-HMAC-SHA256" {
        return Err("another algorithm".to_owned());
    }
    let credential = value("X-Amz-Credential")?;
    let (_, scope) = credential.split_once('/').ok_or("no scope")?;
    let signed = value("X-Amz-SignedHeaders")?;
    let mut headers = String::new();
    for name in signed.split(';') {
        let value = seen.headers.get(name).ok_or_else(|| format!("{name} was signed and not sent"))?;
        headers += &format!("{name}:{}\n", value.to_str().unwrap().trim());
    }
    for name in seen.headers.keys().filter(|name| name.as_str().starts_with("x-amz-")) {
        if !signed.split(';').any(|signed| signed == name.as_str()) {
            return Err(format!("{name} was sent and not signed"));
        }
    }
    let canonical = format!(
        "{}\n{raw_path}\n{}\n{headers}\n{signed}\nUNSIGNED-PAYLOAD",
        seen.method,
        parameters.join("&")
    );
    let text =
        format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", value("X-Amz-Date")?, sha256(canonical.as_bytes()));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part);
    }
    Ok(mac(&key, &text).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
