//! `chat` and `bench` against a server behind TLS, with a certificate that no system knows.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::process::{Server, output, vlinders};

/// A server and, in front of it, what decrypts for it, in the name of `localhost`.
struct TlsServer {
    inner: Server,
    port: u16,
    /// The certificate of the authority that signed the server's.
    ca_file: PathBuf,
    /// That of another authority.
    other_ca_file: PathBuf,
    _runtime: tokio::runtime::Runtime,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl TlsServer {
    fn start() -> Self {
        let inner = Server::start();
        let authority_of = |name: &str| {
            let authority = authority(name);
            let file = inner.folder().join(name);
            std::fs::write(&file, authority.pem()).unwrap();
            (authority, file)
        };
        let (ca, ca_file) = authority_of("ca.pem");
        let (_, other_ca_file) = authority_of("other-ca.pem");
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();

        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let behind = inner.url.strip_prefix("http://").unwrap().to_owned();
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                tokio::spawn(async move {
                    // A client that does not believe us goes away in the middle of the greeting.
                    let Ok(mut near) = acceptor.accept(stream).await else { return };
                    let mut far = TcpStream::connect(behind).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { inner, port, ca_file, other_ca_file, _runtime: runtime }
    }

    /// A client of the encrypted address that believes `system` instead of the authorities of this machine.
    fn client(&self, name: &str, host: &str, system: &Path) -> Command {
        let mut command = vlinders(self.inner.folder());
        command.args([name, "--url", &format!("https://{host}:{}/v1", self.port)]);
        command.env("SSL_CERT_FILE", system).env_remove("SSL_CERT_DIR");
        command
    }
}

#[test]
fn a_server_is_believed_that_an_authority_vouches_for() {
    let server = TlsServer::start();
    let question = ["-m", "What is 47 + 38?", "--temperature", "0"];
    let by_option = server.client("chat", "localhost", &server.other_ca_file);
    let by_system = server.client("chat", "localhost", &server.ca_file);
    for (mut chat, option) in [(by_option, Some(&server.ca_file)), (by_system, None)] {
        if let Some(file) = option {
            chat.arg("--ca-file").arg(file);
        }
        let (output, out, err) = output(chat.args(question));
        assert!(output.status.success(), "{err}");
        assert_eq!(out, "47 + 38 = 85.\n");
    }
    let mut bench = server.client("bench", "localhost", &server.ca_file);
    let (output, out, err) =
        output(bench.args(["--num-requests", "8", "--output-len", "2", "--warmup", "0"]));
    assert!(output.status.success(), "{err}");
    assert!(out.contains("8 ok, 0 failed"), "{out}");
}

#[test]
fn a_certificate_that_can_not_be_trusted_is_told_as_such() {
    let server = TlsServer::start();
    let refused = |host: &str, system: &Path| {
        let (output, out, err) = output(server.client("chat", host, system).args(["-m", "Hello!"]));
        assert_eq!((output.status.code(), out.as_str()), (Some(1), ""), "{err}");
        let address = format!("https://{host}:{}/v1/models", server.port);
        assert!(
            err.starts_with(&format!("error: the certificate of {address} can not be trusted: ")),
            "{err}"
        );
        err
    };
    let unknown = refused("localhost", &server.other_ca_file);
    assert!(unknown.contains("--ca-file"), "{unknown}");
    let other_name = refused("127.0.0.1", &server.ca_file);
    assert!(other_name.contains("localhost") && !other_name.contains("--ca-file"), "{other_name}");
}

#[test]
fn a_file_of_authorities_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let told = |text: &str| {
        std::fs::write(folder.path().join("ca.pem"), text).unwrap();
        let mut chat = vlinders(folder.path());
        let (output, _, err) = output(chat.args(["chat", "--ca-file", "ca.pem", "-m", "Hello!"]));
        assert_eq!(output.status.code(), Some(1));
        err
    };
    assert!(told("not a certificate").contains("ca.pem holds no certificate"));
    let broken = told("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    assert!(broken.contains("ca.pem is no file of certificates"), "{broken}");
}

#[test]
fn without_tls_no_authorities_are_needed() {
    let server = Server::start();
    let mut chat = server.client("chat");
    chat.env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere");
    let (output, _, err) = output(chat.args(["-m", "Hello!"]));
    assert!(output.status.success(), "{err}");
}
