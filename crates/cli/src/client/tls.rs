//! Encrypted connections: whose certificates are believed, and how it is told when one is not.

use std::error::Error;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use reqwest::{Certificate, ClientBuilder};
use rustls::{CertificateError, Error as TlsError};

/// Decide whose certificates are believed: the system's authorities (those of `SSL_CERT_FILE` or `SSL_CERT_DIR` where
/// set), and those of `ca_file`. An address without TLS needs none, so a machine without any can use it.
///
/// # Errors
/// A file that can not be read or holds no certificate.
pub(crate) fn trust(
    builder: ClientBuilder,
    encrypted: bool,
    ca_file: Option<&Path>,
) -> anyhow::Result<ClientBuilder> {
    // Another provider may be installed already, by an earlier client.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let extra = ca_file.map(read).transpose()?.unwrap_or_default();
    Ok(if encrypted { builder.tls_certs_merge(extra) } else { builder.tls_certs_only(extra) })
}

fn read(file: &Path) -> anyhow::Result<Vec<Certificate>> {
    let shown = file.display();
    let text = std::fs::read(file).with_context(|| format!("cannot read the certificates in {shown}"))?;
    let certificates = Certificate::from_pem_bundle(&text)
        .with_context(|| format!("{shown} is no file of certificates in PEM form"))?;
    anyhow::ensure!(
        !certificates.is_empty(),
        "{shown} holds no certificate; it needs lines such as -----BEGIN CERTIFICATE-----"
    );
    Ok(certificates)
}

/// What is wrong with the certificate of the server and what to do about it, if that is why a request failed.
pub(super) fn certificate_problem(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(TlsError::InvalidCertificate(problem)) = error.downcast_ref() {
            return Some(match problem {
                CertificateError::UnknownIssuer => {
                    "it is signed by nobody this machine knows; if you trust the server, give the certificate of the \
                     authority that signed it with --ca-file"
                        .to_owned()
                }
                other => other.to_string(),
            });
        }
        // What an io::Error wraps is not its source, but the error itself.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}
