//! Checks of every kind against real servers of their kind, and against each of their faults.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use shunt::health::check::{Tools, run};
use shunt::health::scripts::Scripts;
use shunt::kernel::Namespace;
use shunt::kernel::ServiceWays;
use shunt_dataplane::id::Protocol;
use shunt_model::health::kind::{Body, CheckKind, Http, Pattern, QueryType, Tls, Udp};
use shunt_model::health::{Check, RealKey};
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

/// Makes one check; what it says when it fails.
fn ask(kind: CheckKind, to: SocketAddr, timeout: Duration) -> Result<(), String> {
    let check = Check {
        kind,
        to,
        way: None,
        from: None,
        interval: LONG,
        timeout,
        retry_interval: None,
        warmup: Duration::ZERO,
        fall: 1,
        rise: 1,
        reentry: Duration::ZERO,
        alpha: false,
    };
    let listen = SocketAddr::from(([192, 0, 2, 10], 80));
    let key = RealKey { listen, protocol: Protocol::Tcp, address: to };
    let tools = Tools::new(Scripts::start().unwrap(), ServiceWays::default(), std::sync::Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(Some(&key), &check, &tools)).map(|_| ()).map_err(|failure| failure.to_string())
}

/// Runs a command to its end.
fn command(folder: &Path, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}: see scripts/packages.sh"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Ports of loopback that nobody has.
fn free_ports<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// A server that is killed at the end.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nginx with TLS: a certificate of a throw-away authority, and one that is over.
struct Web {
    folder: TempDir,
    plain: SocketAddr,
    good: SocketAddr,
    over: SocketAddr,
}

const NGINX: &str = r#"
pid FOLDER/nginx.pid;
error_log FOLDER/error.log;
worker_processes 1;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path FOLDER; proxy_temp_path FOLDER; fastcgi_temp_path FOLDER;
    uwsgi_temp_path FOLDER; scgi_temp_path FOLDER;
    server {
        listen PLAIN;
        listen GOOD ssl;
        ssl_certificate FOLDER/www.pem; ssl_certificate_key FOLDER/www.key;
        root FOLDER;
        location = /health { if ($http_host !~ "^(www.example.org|192.0.2.10)") { return 421; } return 200 "all well\n"; }
        location = /busy { return 503; }
        location = /moved { return 301 /health; }
        location = /slow { limit_rate 8; }
    }
    server { listen OVER ssl; ssl_certificate FOLDER/over.pem; ssl_certificate_key FOLDER/www.key; return 200; }
}
"#;

impl Web {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for (request, sign) in [
            (
                format!("req -x509 {key} -keyout ca.key -out ca.pem -days 30 -subj /CN=authority"),
                format!("req -x509 {key} -keyout other.key -out other.pem -days 30 -subj /CN=other"),
            ),
            (
                format!(
                    "req {key} -keyout www.key -out www.csr -subj /CN=www -addext subjectAltName=DNS:www.example.org"
                ),
                "x509 -req -in www.csr -CA ca.pem -CAkey ca.key -days 30 -copy_extensions copy -out www.pem"
                    .to_owned(),
            ),
        ] {
            command(folder.path(), &format!("openssl {request}"));
            command(folder.path(), &format!("openssl {sign}"));
        }
        let over =
            "x509 -req -in www.csr -CA ca.pem -CAkey ca.key -days -1 -copy_extensions copy -out over.pem";
        command(folder.path(), &format!("openssl {over}"));
        std::fs::write(folder.path().join("slow"), [b'x'; 4096]).unwrap();
        let [plain, good, over] = free_ports();
        let mut text = NGINX.replace("FOLDER", folder.path().to_str().unwrap());
        for (word, at) in [("PLAIN", plain), ("GOOD", good), ("OVER", over)] {
            text = text.replace(word, &at.to_string());
        }
        std::fs::write(folder.path().join("nginx.conf"), text).unwrap();
        // It goes to the background when it listens.
        command(folder.path(), &format!("nginx -e stderr -p {0} -c {0}/nginx.conf", folder.path().display()));
        Self { folder, plain, good, over }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        command(
            self.folder.path(),
            &format!("nginx -e stderr -s stop -p {0} -c {0}/nginx.conf", self.folder.path().display()),
        );
    }
}

fn get(path: &str) -> Http {
    Http { path: path.to_owned(), host: None, status: vec![200..=299], body: None, tls: None }
}

#[test]
fn http_and_https_of_nginx() {
    let web = Web::start();
    let [closed] = free_ports();
    let http = |http, to| ask(CheckKind::Http(http), to, LONG);
    assert_eq!(http(get("/health"), web.plain), Ok(()));
    assert_eq!(http(get("/health"), closed), Err("connection refused".into()));
    assert_eq!(http(get("/busy"), web.plain), Err("HTTP status 503, wanted 200-299".into()));
    assert_eq!(http(Http { status: vec![200..=299, 301..=301], ..get("/moved") }, web.plain), Ok(()));
    let stranger = Http { host: Some("www.example.net".into()), ..get("/health") };
    assert_eq!(http(stranger, web.plain), Err("HTTP status 421, wanted 200-299".into()));
    let body = |body| Http { body: Some(body), ..get("/health") };
    assert_eq!(http(body(Body::Matches(Pattern::regex("all (is )?well").unwrap())), web.plain), Ok(()));
    // printf 'all well\n' | md5sum
    let digest = 0x3605_9628_abb2_20b1_e7c5_b509_5d3b_96f5_u128.to_be_bytes();
    assert_eq!(http(body(Body::Digest(digest)), web.plain), Ok(()));
    let slow = Http { body: Some(Body::Digest(digest)), ..get("/slow") };
    assert_eq!(ask(CheckKind::Http(slow), web.plain, SHORT), Err("timeout after 300ms, no answer".into()));

    let tls = |verify, ca: Option<&str>, name: Option<&str>| {
        let host = Some("www.example.org:8443".to_owned());
        let ca = ca.map(|name| web.file(name));
        Http { host, tls: Some(Tls { name: name.map(str::to_owned), verify, ca }), ..get("/health") }
    };
    assert_eq!(http(tls(false, None, None), web.good), Ok(()));
    assert_eq!(http(tls(false, None, None), web.over), Ok(()));
    assert_eq!(http(tls(true, Some("ca.pem"), None), web.good), Ok(()));
    for (asked, to, words) in [
        (tls(true, None, None), web.good, "unable to get local issuer certificate"),
        (tls(true, Some("other.pem"), None), web.good, "unable to get local issuer certificate"),
        (
            tls(true, Some("ca.pem"), Some("www.example.net")),
            web.good,
            "the certificate is not for www.example.net: it is for www.example.org",
        ),
        (tls(true, Some("ca.pem"), None), web.over, "the certificate of \"www\" has expired on "),
        (tls(true, Some("www.key"), None), web.good, "no certificate in it"),
        (tls(true, Some("none.pem"), None), web.good, "none.pem: "),
        (tls(false, None, None), web.plain, "the server does not speak TLS at this port"),
    ] {
        let failure = http(asked, to).unwrap_err();
        assert!(failure.starts_with("TLS: ") && failure.contains(words), "{failure}");
    }
    assert!(http(get("/health"), web.good).unwrap_err().contains("HTTP status 400"));
}

#[test]
fn dns_of_dnsmasq() {
    let [port] = free_ports();
    let folder = tempfile::tempdir().unwrap();
    let line = format!(
        "dnsmasq --keep-in-foreground --conf-file=/dev/null --port={} --listen-address=127.0.0.1 --bind-interfaces \
         --no-resolv --no-hosts --user=root --pid-file= --address=/www.example.org/192.0.2.80 --local=/gone.example.org/ \
         --log-facility=-",
        port.port()
    );
    let words: Vec<&str> = line.split_whitespace().collect();
    let server =
        Command::new(words[0]).args(&words[1..]).current_dir(folder.path()).stderr(Stdio::piped()).spawn();
    let mut server = Server(server.expect("dnsmasq: see scripts/packages.sh"));
    // It says so when it serves.
    let log = std::io::BufReader::new(server.0.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(log).map_while(Result::ok);
    assert!(lines.any(|line| line.contains("started")), "dnsmasq did not start");

    let dns = |name: &str, query| CheckKind::Dns { name: name.to_owned(), query: QueryType(query) };
    assert_eq!(ask(dns("www.example.org", 1), port, LONG), Ok(()));
    assert_eq!(ask(dns("gone.example.org", 1), port, LONG), Err("DNS error NXDOMAIN".into()));
    assert_eq!(ask(dns("elsewhere.example.net", 1), port, LONG), Err("DNS error REFUSED".into()));
    let udp = Udp { payload: vec![0; 12], require_reply: true, min_reply: 12, max_reply: 512, expect: None };
    assert_eq!(ask(CheckKind::Udp(udp), port, LONG), Ok(()));
    drop(server);
    assert_eq!(ask(dns("www.example.org", 1), port, LONG), Err("connection refused".into()));
    let hole = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let failure = ask(dns("www.example.org", 1), hole.local_addr().unwrap(), SHORT);
    assert_eq!(failure, Err("timeout after 300ms, no answer".into()));
}

#[test]
fn smtp_of_aiosmtpd() {
    let [port, closed] = free_ports();
    let server = Command::new("/usr/bin/aiosmtpd")
        .args(["-n", "-l", &port.to_string(), "-c", "aiosmtpd.handlers.Sink"])
        .spawn()
        .expect("aiosmtpd: see scripts/packages.sh");
    let server = Server(server);
    let begin = Instant::now();
    while TcpStream::connect(port).is_err() {
        assert!(begin.elapsed() < LONG, "aiosmtpd does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    let smtp = |helo: Option<&str>| CheckKind::Smtp { helo: helo.map(str::to_owned) };
    assert_eq!(ask(smtp(None), port, LONG), Ok(()));
    assert_eq!(ask(smtp(Some("director.example.org")), port, LONG), Ok(()));
    let send = |send: &str, expect| CheckKind::Send { send: send.into(), expect };
    assert_eq!(ask(send("", Pattern::regex("^220 .*SMTP").unwrap()), port, LONG), Ok(()));
    assert_eq!(ask(send("NOOP\r\n", Pattern::literal("250")), port, LONG), Ok(()));
    drop(server);
    assert_eq!(ask(smtp(None), closed, LONG), Err("connection refused".into()));
    // One that takes the connection and says nothing, and one that has no place.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = silent.local_addr().unwrap();
    assert_eq!(ask(smtp(None), to, SHORT), Err("timeout after 300ms, no answer".into()));
    let full = std::thread::spawn(move || {
        // The first is the one of before.
        let _gone = silent.accept().unwrap();
        let (mut stream, _) = silent.accept().unwrap();
        stream.write_all(b"421-too many\r\n421 connections\r\n").unwrap();
    });
    assert_eq!(ask(smtp(None), to, LONG), Err("answer \"421-too many\", wanted 220".into()));
    full.join().unwrap();
}

#[test]
fn ping_of_a_kernel() {
    // In a namespace of its own, where the director lets ping sockets be made; then by raw ones.
    for ping_sockets in [true, false] {
        let namespace = Namespace::new().unwrap();
        let work = move || {
            command(Path::new("/"), "ip link set lo up");
            if ping_sockets {
                std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
            }
            for to in [IpAddr::from([127, 0, 0, 5]), "::1".parse().unwrap()] {
                assert_eq!(ask(CheckKind::Ping, SocketAddr::new(to, 0), LONG), Ok(()), "{to}");
            }
            command(Path::new("/"), "sysctl -q -w net.ipv4.icmp_echo_ignore_all=1");
            let silent = ask(CheckKind::Ping, SocketAddr::from(([127, 0, 0, 5], 0)), SHORT);
            assert_eq!(silent, Err("timeout after 300ms, no answer".into()));
            let nowhere = ask(CheckKind::Ping, SocketAddr::from(([192, 0, 2, 1], 0)), LONG).unwrap_err();
            assert!(nowhere.contains("unreachable"), "{nowhere}");
        };
        namespace.run(work).unwrap();
    }
}
