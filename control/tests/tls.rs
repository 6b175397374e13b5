//! TLS of checks against servers of the field (`openssl s_server`): where nothing is verified, what keepalived 2.2.7 says of the same
//! servers with Debian 12's OpenSSL, measured; where something is, reasons in words.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use shunt::health::check::{Tools, run};
use shunt::health::scripts::Scripts;
use shunt::kernel::ServiceWays;
use shunt_dataplane::id::Protocol;
use shunt_model::health::kind::{CheckKind, Http, Tls};
use shunt_model::health::{Check, RealKey};

const LONG: Duration = Duration::from_secs(20);

/// A server that is killed at the end, and where it listens.
struct Server(Child, SocketAddr);

impl Server {
    fn start(folder: &Path, words: &str) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-www", "-accept", "127.0.0.1:0"]).args(words.split_whitespace());
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("openssl: see scripts/packages.sh");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let at = lines.find_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned));
        let at = at.unwrap_or_else(|| panic!("s_server {words}: it does not listen"));
        // It goes on to speak of each connection.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child, at.parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn openssl(folder: &Path, line: &str) {
    let output = Command::new("openssl").args(line.split_whitespace()).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate of one's own, with this kind of key.
fn own(folder: &Path, name: &str, key: &str) {
    let request = format!(
        "req -x509 -newkey {key} -nodes -keyout {name}.key -out {name}.crt -days 365 -subj /CN=real -addext subjectAltName=DNS:real.example.org"
    );
    openssl(folder, &request);
}

fn ask(to: SocketAddr, tls: Tls) -> Result<(), String> {
    let http = Http {
        path: "/".to_owned(),
        host: Some("real.example.org".to_owned()),
        status: vec![200..=299],
        body: None,
        tls: Some(tls),
    };
    let check = Check {
        kind: CheckKind::Http(http),
        to,
        way: None,
        from: None,
        interval: LONG,
        timeout: LONG,
        retry_interval: None,
        warmup: Duration::ZERO,
        fall: 1,
        rise: 1,
        reentry: Duration::ZERO,
        alpha: false,
    };
    let listen = SocketAddr::from(([192, 0, 2, 10], 443));
    let key = RealKey { listen, protocol: Protocol::Tcp, address: to };
    let tools = Tools::new(Scripts::start().unwrap(), ServiceWays::default(), std::sync::Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(Some(&key), &check, &tools)).map(|_| ()).map_err(|failure| failure.to_string())
}

fn unverified() -> Tls {
    Tls { name: None, verify: false, ca: None }
}

/// What servers are like, and whether keepalived has them up; of those that are down, what is said.
const SERVERS: &[(&str, Option<&str>)] = &[
    ("-cert rsa.crt -key rsa.key", None),
    ("-cert v1.crt -key v1.key", None),
    ("-cert over.crt -key v1.key", None),
    ("-cert rsa1024.crt -key rsa1024.key -cipher ALL:@SECLEVEL=0", None),
    ("-cert rsa512.crt -key rsa512.key -tls1_2 -cipher ALL:@SECLEVEL=0", None),
    ("-cert p521.crt -key p521.key", None),
    ("-cert pss.crt -key pss.key", None),
    ("-cert pss.crt -key pss.key -tls1_2", None),
    ("-cert ed25519.crt -key ed25519.key", None),
    ("-cert ed448.crt -key ed448.key", None),
    ("-cert md5.crt -key md5.key -cipher ALL:@SECLEVEL=0", None),
    ("-cert rsa.crt -key rsa.key -curves P-521", None),
    ("-cert rsa.crt -key rsa.key -curves X448", None),
    ("-cert rsa.crt -key rsa.key -tls1_3 -groups ffdhe2048", None),
    ("-cert rsa.crt -key rsa.key -tls1_2 -cipher AES128-GCM-SHA256", None),
    ("-cert rsa.crt -key rsa.key -tls1_2 -cipher AES256-SHA256", None),
    ("-cert rsa.crt -key rsa.key -tls1_2 -cipher ECDHE-RSA-AES128-SHA", None),
    ("-cert rsa.crt -key rsa.key -tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256", None),
    ("-cert rsa.crt -key rsa.key -tls1_2 -cipher ECDHE-RSA-CHACHA20-POLY1305", None),
    ("-cert rsa.crt -key rsa.key -verify 1", None),
    ("-cert rsa.crt -key rsa.key -tls1_1 -cipher ALL:@SECLEVEL=0", Some("TLS: ")),
    ("-cert rsa.crt -key rsa.key -tls1 -cipher ALL:@SECLEVEL=0", Some("TLS: ")),
    (
        "-cert rsa.crt -key rsa.key -tls1_2 -cipher NULL-SHA256:@SECLEVEL=0",
        Some("TLS: sslv3 alert handshake failure"),
    ),
    ("-nocert -tls1_2 -cipher ADH-AES128-SHA:@SECLEVEL=0", Some("TLS: sslv3 alert handshake failure")),
    ("-cert rsa.crt -key rsa.key -Verify 1", Some("TLS: tlsv13 alert certificate required")),
    ("-cert rsa.crt -key rsa.key -Verify 1 -tls1_2", Some("TLS: sslv3 alert handshake failure")),
];

#[test]
fn without_verification_a_server_is_up_that_keepalived_has_up() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (name, key) in [
        ("rsa", "rsa:2048"),
        ("rsa1024", "rsa:1024"),
        ("rsa512", "rsa:512"),
        ("pss", "rsa-pss -pkeyopt rsa_keygen_bits:2048"),
        ("p521", "ec -pkeyopt ec_paramgen_curve:P-521"),
        ("ed25519", "ed25519"),
        ("ed448", "ed448"),
        ("md5", "rsa:2048 -md5"),
    ] {
        own(folder, name, key);
    }
    // The usual recipe for a certificate of one's own: without extensions it is X.509 version 1. And one that is over.
    openssl(folder, "req -new -newkey rsa:2048 -nodes -keyout v1.key -out v1.csr -subj /CN=real");
    openssl(folder, "x509 -req -in v1.csr -signkey v1.key -days 365 -out v1.crt");
    openssl(folder, "x509 -req -in v1.csr -signkey v1.key -days -1 -out over.crt");
    for (words, down) in SERVERS {
        let server = Server::start(folder, words);
        let result = ask(server.1, unverified());
        match (result, down) {
            (Ok(()), None) => {}
            (Err(failure), Some(reason)) if failure.starts_with(reason) => {}
            (result, _) => panic!("{words}: {result:?}, wanted {down:?}"),
        }
    }
}

#[test]
fn what_is_not_good_about_a_certificate_is_said_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    own(folder, "rsa", "rsa:2048");
    own(folder, "weak", "rsa:1024");
    own(folder, "other", "rsa:2048");
    openssl(folder, "req -new -newkey rsa:2048 -nodes -keyout v1.key -out v1.csr -subj /CN=real.example.org");
    openssl(folder, "x509 -req -in v1.csr -signkey v1.key -days 365 -out v1.crt");
    openssl(
        folder,
        "req -new -key rsa.key -out over.csr -subj /CN=real.example.org -addext subjectAltName=DNS:real.example.org",
    );
    openssl(folder, "x509 -req -in over.csr -signkey rsa.key -days -1 -copy_extensions copy -out over.crt");
    let verified = |ca: &str, name: Option<&str>| Tls {
        name: name.map(str::to_owned),
        verify: true,
        ca: Some(folder.join(ca)),
    };
    let rsa = Server::start(folder, "-cert rsa.crt -key rsa.key");
    // A server's own certificate is an authority for itself.
    assert_eq!(ask(rsa.1, verified("rsa.crt", None)), Ok(()));
    assert_eq!(ask(rsa.1, verified("rsa.crt", Some("real.example.org."))), Ok(()));
    let weak = Server::start(folder, "-cert weak.crt -key weak.key -cipher ALL:@SECLEVEL=0");
    let v1 = Server::start(folder, "-cert v1.crt -key v1.key");
    let over = Server::start(folder, "-cert over.crt -key rsa.key");
    for (server, tls, words) in [
        (
            &rsa,
            verified("rsa.crt", Some("www.example.org")),
            "TLS: the certificate is not for www.example.org: it is for real.example.org",
        ),
        (
            &rsa,
            verified("rsa.crt", Some("10.1.0.11")),
            "TLS: the certificate is not for 10.1.0.11: it is for real.example.org",
        ),
        (
            &rsa,
            verified("other.crt", None),
            "TLS: the certificate of \"real\" is not good: self-signed certificate",
        ),
        (
            &weak,
            verified("weak.crt", None),
            "TLS: the certificate of \"real\" is not good: EE certificate key too weak",
        ),
        (
            &v1,
            verified("v1.crt", None),
            "TLS: the certificate is not for real.example.org: it is for no name at all (it has no subjectAltName)",
        ),
        (&over, verified("over.crt", None), "TLS: the certificate of \"real.example.org\" has expired on "),
    ] {
        let failure = ask(server.1, tls).unwrap_err();
        assert!(failure.starts_with(words), "{failure}, wanted {words}");
    }
}
