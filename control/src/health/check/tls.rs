//! TLS on a connection of a check: SNI, and verification where it is asked for.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, crypto,
};

use super::closed;
use crate::health::kind::Tls;
use crate::health::{Failure, Lack};

/// Whom to believe: nobody is asked, or these authorities.
type Trust = Option<Option<PathBuf>>;

/// How TLS is set up for each trust; authorities are read once.
#[derive(Debug, Default)]
pub struct Connectors(Mutex<HashMap<Trust, Result<Arc<ClientConfig>, Failure>>>);

impl Connectors {
    /// Authorities are read anew.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Agrees upon TLS with the server behind a connection. `host` is the Host header, `address` the server's.
    pub async fn secure(
        &self,
        stream: TcpStream,
        tls: &Tls,
        host: &str,
        address: IpAddr,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let name = tls.name.as_deref().unwrap_or_else(|| without_port(host));
        let name = ServerName::try_from(name.to_owned()).unwrap_or_else(|_| ServerName::from(address));
        let config = self.config(tls)?;
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| failure(&error))
    }

    fn config(&self, tls: &Tls) -> Result<Arc<ClientConfig>, Failure> {
        let trust = (tls.verify || tls.ca.is_some()).then(|| tls.ca.clone());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&trust) {
            return known.clone();
        }
        let built = build(&trust).map(Arc::new);
        // What the director lacks now it may have the next time.
        if built.as_ref().err().and_then(Failure::lack).is_none() {
            known.insert(trust, built.clone());
        }
        built
    }
}

/// The name of a Host header.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.contains(':') => name,
        _ => host.trim_start_matches('[').trim_end_matches(']'),
    }
}

fn build(trust: &Trust) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Tls(error.to_string()))?;
    Ok(match trust {
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth(),
        Some(ca) => builder.with_root_certificates(authorities(ca.as_deref())?).with_no_client_auth(),
    })
}

/// The authorities of a file, or of the system.
fn authorities(ca: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut store = RootCertStore::empty();
    let Some(path) = ca else {
        let found = rustls_native_certs::load_native_certs();
        let lack = found.errors.iter().find_map(|error| match &error.kind {
            rustls_native_certs::ErrorKind::Io { inner, .. } => Lack::of_reading(inner),
            _ => None,
        });
        if let Some(lack) = lack {
            return Err(Failure::Lack(lack));
        }
        store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            return Err(Failure::Tls(
                "the system has no authorities: install ca-certificates, or name a file with ca".into(),
            ));
        }
        return Ok(store);
    };
    let wrong = |error: String| Failure::Tls(format!("{}: {error}", path.display()));
    let unread = |error: pem::Error| match &error {
        pem::Error::Io(inner) => match Lack::of_reading(inner) {
            Some(lack) => Failure::Lack(lack),
            None => wrong(error.to_string()),
        },
        _ => wrong(error.to_string()),
    };
    for certificate in CertificateDer::pem_file_iter(path).map_err(unread)? {
        let certificate = certificate.map_err(unread)?;
        store.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if store.is_empty() { Err(wrong("no certificate in it".into())) } else { Ok(store) }
}

fn failure(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => Failure::Tls(error.to_string()),
        None => closed(error),
    }
}

/// Believes any certificate, as keepalived's `SSL_GET` does; that the server has its key is still looked at.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

impl Anyone {
    fn algorithms(&self) -> crypto::WebPkiSupportedAlgorithms {
        self.0.signature_verification_algorithms
    }
}

#[cfg(test)]
mod tests {
    use super::without_port;

    #[test]
    fn a_host_header_names_a_host() {
        for (header, name) in [
            ("www.example.org", "www.example.org"),
            ("www.example.org:8443", "www.example.org"),
            ("192.0.2.10:443", "192.0.2.10"),
            ("[2001:db8::1]", "2001:db8::1"),
        ] {
            assert_eq!(without_port(header), name);
        }
    }
}
