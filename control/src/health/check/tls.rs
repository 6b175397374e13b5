//! TLS on a connection of a check: SNI, and verification where it is asked for.
//!
//! Where nothing is verified the library's own defaults hold, as in keepalived: no certificate is a failure, and no protocol or suite that
//! this system's OpenSSL (and its `openssl.cnf`) speaks.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hashbrown::HashMap;
use openssl::error::ErrorStack;
use openssl::ssl::{self, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslVerifyMode};
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509CheckFlags, X509VerifyFlags};
use openssl::x509::{X509, X509Ref, X509StoreContextRef};
use shunt_model::health::Failure;
use shunt_model::health::kind::Tls;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::{closed, shown};

/// Whom to believe: nobody is asked, or these authorities.
type Trust = Option<Option<PathBuf>>;

/// Why a certificate was not good, in words.
type Unverified = Arc<OnceLock<String>>;

/// Names of a certificate that a reason shows.
const NAMES_SHOWN: usize = 4;

/// How TLS is set up for each trust; authorities are read once.
#[derive(Debug)]
pub struct Connectors(Mutex<HashMap<Trust, Result<SslContext, Failure>>>);

impl Default for Connectors {
    /// The library reads its own configuration now, not when descriptors may be short.
    fn default() -> Self {
        openssl::init();
        Self(Mutex::default())
    }
}

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
    ) -> Result<SslStream<TcpStream>, Failure> {
        let name = Name::new(tls.name.as_deref().unwrap_or_else(|| without_port(host)), address);
        let unverified = Unverified::default();
        let ssl = name.ask(&self.context(tls)?, verifies(tls).then(|| unverified.clone()));
        let stream = ssl.and_then(|ssl| SslStream::new(ssl, stream));
        let mut stream = stream.map_err(|error| Failure::Tls(reasons(&error)))?;
        match Pin::new(&mut stream).connect().await {
            Ok(()) => Ok(stream),
            Err(error) => Err(match unverified.get() {
                Some(words) => Failure::Tls(words.clone()),
                None => failure(&error),
            }),
        }
    }

    fn context(&self, tls: &Tls) -> Result<SslContext, Failure> {
        let trust = verifies(tls).then(|| tls.ca.clone());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&trust) {
            return known.clone();
        }
        let built = build(&trust);
        // What the director lacks now it may have the next time.
        if built.as_ref().err().and_then(Failure::lack).is_none() {
            known.insert(trust, built.clone());
        }
        built
    }
}

const fn verifies(tls: &Tls) -> bool {
    tls.verify || tls.ca.is_some()
}

/// Whom a server is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    /// By SNI, and in the certificate.
    Host(String),
    /// In the certificate alone: SNI knows no addresses (RFC 6066, 3).
    Address(IpAddr),
}

impl Name {
    /// What is written, or the server's address where that is no name.
    fn new(written: &str, address: IpAddr) -> Self {
        let name = written.strip_suffix('.').unwrap_or(written);
        match name.parse() {
            Ok(address) => Self::Address(address),
            Err(_)
                if name.is_empty()
                    || name.len() > 253
                    || !name.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                Self::Address(address)
            }
            Err(_) => Self::Host(name.to_owned()),
        }
    }

    /// A session with such a server; what is not good about its certificate is noted, if it matters.
    fn ask(&self, context: &SslContext, unverified: Option<Unverified>) -> Result<Ssl, ErrorStack> {
        let mut ssl = Ssl::new(context)?;
        if let Self::Host(name) = self {
            ssl.set_hostname(name)?;
        }
        if let Some(unverified) = unverified {
            let wanted = ssl.param_mut();
            wanted.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS | X509CheckFlags::NEVER_CHECK_SUBJECT);
            match self {
                Self::Host(name) => wanted.set_host(name)?,
                Self::Address(address) => wanted.set_ip(*address)?,
            }
            let name = self.clone();
            ssl.set_verify_callback(SslVerifyMode::PEER, move |good, chain| {
                if !good {
                    // The first fault is the reason.
                    let _ = unverified.set(fault(chain, &name));
                }
                good
            });
        }
        Ok(ssl)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// The name of a Host header.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.contains(':') => name,
        _ => host.trim_start_matches('[').trim_end_matches(']'),
    }
}

fn build(trust: &Trust) -> Result<SslContext, Failure> {
    let set_up = |error: ErrorStack| Failure::Tls(reasons(&error));
    let mut context = SslContextBuilder::new(SslMethod::tls_client()).map_err(set_up)?;
    // Servers that close without a goodbye are many; where an answer ends is HTTP's to say.
    context.set_options(SslOptions::IGNORE_UNEXPECTED_EOF);
    // Checks that wait hold no buffers.
    context.set_mode(SslMode::RELEASE_BUFFERS);
    match trust {
        None => context.set_verify(SslVerifyMode::NONE),
        Some(ca) => {
            context.set_verify(SslVerifyMode::PEER);
            context.set_cert_store(authorities(ca.as_deref())?);
        }
    }
    Ok(context.build())
}

/// The authorities of a file, or of the system.
fn authorities(ca: Option<&Path>) -> Result<X509Store, Failure> {
    let certificates = match ca {
        Some(path) => match of_file(path)? {
            found if found.is_empty() => {
                return Err(Failure::Tls(format!("{}: no certificate in it", path.display())));
            }
            found => found,
        },
        None => of_system()?,
    };
    let build = || {
        let mut store = X509StoreBuilder::new()?;
        for certificate in certificates {
            store.add_cert(certificate)?;
        }
        // Each certificate of the file counts by itself, one that somebody else signed and a server's own as well.
        store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        Ok(store.build())
    };
    build().map_err(|error: ErrorStack| Failure::Tls(reasons(&error)))
}

fn of_file(path: &Path) -> Result<Vec<X509>, Failure> {
    let wrong = |error: String| Failure::Tls(format!("{}: {error}", path.display()));
    let text = std::fs::read(path).map_err(|error| match crate::health::lack::of_reading(&error) {
        Some(lack) => Failure::Lack(lack),
        None => wrong(super::without_number(&error)),
    })?;
    X509::stack_from_pem(&text).map_err(|error| wrong(reasons(&error)))
}

/// Those of the system: a file of all, or else a folder of them. One that cannot be read is left out.
fn of_system() -> Result<Vec<X509>, Failure> {
    let places = openssl_probe::probe();
    let mut files: Vec<PathBuf> = places.cert_file.into_iter().collect();
    if files.is_empty() {
        let entries = places.cert_dir.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
        files.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    let mut found = Vec::new();
    for file in files {
        match of_file(&file) {
            Ok(certificates) => found.extend(certificates),
            Err(lack @ Failure::Lack(_)) => return Err(lack),
            Err(_) => {}
        }
    }
    if found.is_empty() {
        return Err(Failure::Tls(
            "the system has no authorities: install ca-certificates, or name a file with ca".into(),
        ));
    }
    Ok(found)
}

/// Why no agreement was reached, whoever the server is.
fn failure(error: &ssl::Error) -> Failure {
    if let Some(error) = error.io_error() {
        return closed(error);
    }
    let has = |stack: &ErrorStack, reason| stack.errors().iter().any(|error| error.reason() == Some(reason));
    match error.ssl_error().filter(|stack| !stack.errors().is_empty()) {
        None => Failure::Closed("the server closed it during the TLS handshake".into()),
        Some(stack) => match NOT_TLS.iter().find(|reason| has(stack, reason)) {
            Some(reason) => Failure::Tls(format!("the server does not speak TLS at this port ({reason})")),
            None => Failure::Tls(reasons(stack)),
        },
    }
}

/// What the library says of bytes that are no TLS.
const NOT_TLS: [&str; 2] = ["wrong version number", "packet length too long"];

/// What the library says, in its own words: `dh key too small`.
fn reasons(stack: &ErrorStack) -> String {
    let words: Vec<&str> = stack.errors().iter().filter_map(|error| error.reason()).collect();
    if words.is_empty() { "it failed without a reason".to_owned() } else { words.join(": ") }
}

/// What is wrong with a certificate: `certificate has expired on Nov 30 12:00:00 2025 GMT (CN = www)`.
fn fault(chain: &X509StoreContextRef, name: &Name) -> String {
    let words = chain.error().error_string();
    let Some(certificate) = chain.current_cert() else {
        return format!("the certificate is not good: {words}");
    };
    let subject = certificate.subject_name().entries().filter_map(|entry| entry.data().to_string().ok());
    let subject: Vec<String> = subject.map(|part| shown(part.as_bytes())).collect();
    let whose = format!("{:?}", subject.join(", "));
    match words {
        "hostname mismatch" | "IP address mismatch" => {
            let names = names(certificate);
            let of = match names.split_at_checked(NAMES_SHOWN) {
                Some((shown, [_, ..])) => {
                    format!("{} and {} more", shown.join(", "), names.len() - NAMES_SHOWN)
                }
                _ if names.is_empty() => "no name at all (it has no subjectAltName)".to_owned(),
                _ => names.join(", "),
            };
            format!("the certificate is not for {name}: it is for {of}")
        }
        "certificate has expired" => {
            format!("the certificate of {whose} has expired on {}", certificate.not_after())
        }
        "certificate is not yet valid" => {
            format!("the certificate of {whose} is not valid before {}", certificate.not_before())
        }
        _ => format!("the certificate of {whose} is not good: {words}"),
    }
}

/// The names and addresses that a certificate is for.
fn names(certificate: &X509Ref) -> Vec<String> {
    let names = certificate.subject_alt_names();
    let names = names.iter().flatten().filter_map(|name| match (name.dnsname(), name.ipaddress()) {
        (Some(name), _) => Some(shown(name.as_bytes())),
        (None, Some(bytes)) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    });
    names.collect()
}

/// What TLS says of a connection that was agreed upon, such as the server's word that it wants a certificate; none: it broke below.
pub fn said(error: &io::Error) -> Option<Failure> {
    let error = error.get_ref()?.downcast_ref::<ssl::Error>()?;
    error.ssl_error().filter(|stack| !stack.errors().is_empty()).map(|stack| Failure::Tls(reasons(stack)))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_name_is_asked_for_and_an_address_is_not() {
        let real = IpAddr::from([10, 0, 0, 1]);
        let host = |name: &str| Name::Host(name.to_owned());
        for (written, name) in [
            ("www.example.org", host("www.example.org")),
            ("www.example.org.", host("www.example.org")),
            ("of_the_field", host("of_the_field")),
            ("192.0.2.10", Name::Address([192, 0, 2, 10].into())),
            ("2001:db8::1", Name::Address("2001:db8::1".parse().unwrap())),
            ("", Name::Address(real)),
            ("two words", Name::Address(real)),
        ] {
            assert_eq!(Name::new(written, real), name, "{written:?}");
        }
        assert_eq!(Name::new(&"x".repeat(254), real), Name::Address(real));
    }
}
