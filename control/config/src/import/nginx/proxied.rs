//! What server blocks pass on, and what they do that only a proxy can do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use shunt_model::fault::Origin;
use shunt_model::fault::{Fault, printable};

use super::directive::Directive;
use crate::import::note::Fate;
use crate::import::writer::Writer;

/// A server block, and the `http` or `stream` that it stands in.
pub struct Server<'d> {
    pub directive: &'d Directive,
    pub context: Option<&'d Directive>,
}

/// What is passed on from one address.
#[derive(Clone, Debug)]
pub struct Passes {
    /// The upstream, or a host and its port; empty where the server answers by itself.
    pub target: String,
    pub listen: Option<SocketAddr>,
    pub protocol: &'static str,
    /// The `listen`.
    pub origin: Origin,
    /// What was told is an error: no service comes of it.
    pub refused: bool,
}

impl Passes {
    fn of(listen: &Directive, target: String, refused: bool) -> Option<Self> {
        let protocol = if listen.has("udp") { "udp" } else { "tcp" };
        let origin = listen.origin.clone();
        let listen = Some(listen_address(listen.argument())?);
        Some(Self { target, listen, protocol, origin, refused })
    }

    /// An upstream that nothing is passed to.
    pub fn nobody(target: &str) -> Self {
        let origin = Origin { file: std::path::Path::new("").into(), line: 1, column: 1 };
        let target = target.to_owned();
        Self { target, listen: None, protocol: "tcp", origin, refused: false }
    }
}

/// Directives that change what clients get, and what of it; a beginning ends with `*`.
const CHANGES: &[(&str, &str)] = &[
    ("rewrite", "paths are changed on their way"),
    ("return", "some requests are answered by nginx itself"),
    ("if", "what is done depends on the request"),
    ("try_files", "files are sent by nginx itself"),
    ("sub_filter*", "answers are changed on their way"),
    ("auth_*", "nginx asks who the client is"),
    ("allow", "clients are let in or kept out by their address"),
    ("deny", "clients are let in or kept out by their address"),
    ("add_header", "nginx adds to the heads of answers"),
    ("expires", "nginx adds to the heads of answers"),
    ("more_*", "nginx changes heads"),
    ("proxy_intercept_errors", "nginx answers in the place of a real server"),
    ("proxy_redirect", "the place of a redirection is changed on its way"),
    ("proxy_cookie_*", "cookies are changed on their way"),
    ("proxy_hide_header", "answers are changed on their way"),
    ("proxy_method", "requests are changed on their way"),
    ("proxy_set_body", "requests are changed on their way"),
    ("proxy_protocol", "real servers are told the client by a PROXY header"),
    ("proxy_bind", "real servers see another address"),
    ("mirror", "requests are sent twice"),
    ("secure_link*", "nginx asks who the client is"),
    ("content_by_lua*", "a program answers"),
    ("access_by_lua*", "a program decides"),
    ("rewrite_by_lua*", "a program decides"),
    ("js_*", "a program decides"),
];
/// Directives of which this is the default.
const DEFAULTS: &[(&str, &str)] = &[
    ("proxy_redirect", "off"),
    ("proxy_redirect", "default"),
    ("auth_basic", "off"),
    ("allow", "all"),
    ("proxy_protocol", "off"),
    ("proxy_intercept_errors", "off"),
];
/// Directives that are read elsewhere, or say nothing about what is done.
const READ: &[&str] = &[
    "listen",
    "server_name",
    "location",
    "include",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl",
    "proxy_ssl",
    "limit_except",
];

/// Of all server blocks; what cannot be taken is told. Whoever is passed to is an upstream of one of these names, or a host.
pub fn passes(servers: &[Server<'_>], upstreams: &[&str], writer: &mut Writer) -> Vec<Passes> {
    let mut all: Vec<(Passes, String)> = Vec::new();
    let mut contexts: Vec<&Origin> = Vec::new();
    for server in servers {
        let of_server = server.passes(upstreams, writer);
        if let Some(context) = server.context.filter(|_| of_server.iter().any(|one| !one.target.is_empty())) {
            if !contexts.contains(&&context.origin) {
                contexts.push(&context.origin);
                let inherited = context.block().iter().filter(|directive| directive.block.is_none());
                for directive in inherited {
                    told(directive, &context.line(), false, writer);
                }
            }
        }
        for one in of_server {
            all.push((one, server.names()));
        }
    }
    let mut kept: Vec<Passes> = Vec::new();
    for (mut one, names) in all.clone() {
        // Refused at its second mention; both are.
        let same =
            |other: &Passes| !other.refused && other.listen == one.listen && other.protocol == one.protocol;
        let other = all.iter().find(|(other, _)| !one.refused && same(other) && other.target != one.target);
        if let Some((other, other_names)) = other {
            one.refused = true;
            if one.origin > other.origin {
                refuse_second(&one, &names, other, other_names, writer);
            }
        }
        kept.extend(Some(one).filter(|one| !one.target.is_empty()));
    }
    kept
}

fn refuse_second(one: &Passes, names: &str, other: &Passes, other_names: &str, writer: &mut Writer) {
    let whom = |one: &Passes| match one.target.as_str() {
        "" => "nginx itself".to_owned(),
        target => target.to_owned(),
    };
    let at = one.listen.map_or("*:80".to_owned(), |listen| listen.to_string());
    let fault = Fault::new(
        format!("{at} is that of {}, too ({other_names}), and of {} ({names})", whom(other), whom(one)),
        "a service has one group of real servers: names are in requests, which a director does not read",
        "give each name an address of its own, or keep nginx behind the director",
    );
    writer.refuse(&one.origin, "server", fault);
}

/// A `proxy_pass` or the like, and where it stands.
struct Pass<'d> {
    directive: &'d Directive,
    /// The pattern of its location; none: all that the server gets.
    location: Option<&'d Directive>,
    scheme: &'d str,
    target: &'d str,
    /// What is put in the place of the location's path.
    uri: &'d str,
}

impl<'d> Pass<'d> {
    fn new(directive: &'d Directive, location: Option<&'d Directive>) -> Self {
        let word = directive.argument();
        let (scheme, rest) = word.split_once("://").unwrap_or(("", word));
        let (target, uri) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        Self { directive, location, scheme, target, uri }
    }

    /// Whether it gets every request.
    fn takes_all(&self) -> bool {
        self.location.is_none_or(|location| match &location.words[1..] {
            [path] => path == "/",
            [how, path] => {
                how == "^~" && path == "/"
                    || how.starts_with('~') && ["/", "^/", ".*", "^/.*"].contains(&path.as_str())
            }
            _ => false,
        })
    }

    /// The upstream, or the host with its port.
    fn whom(&self, upstreams: &[&str]) -> String {
        let has_port =
            self.target.rsplit_once(':').is_some_and(|(_, l4_port)| l4_port.parse::<u16>().is_ok());
        if has_port && !self.target.ends_with(']') || upstreams.contains(&self.target) {
            return self.target.to_owned();
        }
        format!("{}:{}", self.target, if ["https", "grpcs"].contains(&self.scheme) { 443 } else { 80 })
    }
}

/// Passes of a block and of those within it, and locations without one.
fn walk<'d>(
    block: &'d [Directive],
    location: Option<&'d Directive>,
    passes: &mut Vec<Pass<'d>>,
    own: &mut Vec<&'d Directive>,
) {
    for directive in block {
        if directive.name().ends_with("_pass") && directive.block.is_none() {
            passes.push(Pass::new(directive, location));
        } else if directive.name() == "location" {
            let before = passes.len();
            walk(directive.block(), Some(directive), passes, own);
            if passes.len() == before {
                own.push(directive);
            }
        } else {
            walk(directive.block(), location, passes, own);
        }
    }
}

impl Server<'_> {
    fn is_stream(&self) -> bool {
        self.context.is_some_and(|context| context.name() == "stream")
    }

    fn names(&self) -> String {
        let names = self.directive.block().iter().filter(|directive| directive.name() == "server_name");
        let names: Vec<&str> = names.flat_map(|names| &names.words[1..]).map(String::as_str).collect();
        if names.is_empty() { "without a server_name".to_owned() } else { printable(&names.join(" "), 60) }
    }

    /// What it passes on, for each of its addresses.
    fn passes(&self, upstreams: &[&str], writer: &mut Writer) -> Vec<Passes> {
        let (mut passes, mut own) = (Vec::new(), Vec::new());
        walk(self.directive.block(), None, &mut passes, &mut own);
        let place = format!("server {}", self.names());
        let default = Directive {
            origin: self.directive.origin.clone(),
            words: vec!["listen".to_owned(), "80".to_owned()],
            block: None,
        };
        let mut listens: Vec<&Directive> =
            self.directive.block().iter().filter(|directive| directive.name() == "listen").collect();
        if listens.is_empty() && !self.is_stream() {
            listens.push(&default);
        }
        let Some(first) = passes.first() else {
            if !listens.is_empty() && self.context.is_some() {
                let wrong = "it passes nothing on: nginx answers by itself";
                let holds = "no service comes of it";
                let fault =
                    Fault::new(wrong, holds, "keep a web server for it, as a real server of a service");
                writer.notice(&self.directive.origin, &place, fault);
            }
            return listens.iter().flat_map(|listen| Passes::of(listen, String::new(), false)).collect();
        };
        let good = self.one_for_all(&passes, &own, &place, writer);
        let good = judge(self.directive.block(), &place, writer) && good;
        let mut of_server = Vec::new();
        for listen in listens {
            let good = self.tls(listen, first, &place, writer) && good;
            let found = Passes::of(listen, first.whom(upstreams), !good);
            if found.is_none() {
                let wrong = format!("listen {} is no address and no port", printable(listen.argument(), 60));
                let holds = "a service listens at an IP address and one port";
                writer.refuse(
                    &listen.origin,
                    &place,
                    Fault::new(wrong, holds, "write the address, or remove it"),
                );
            }
            of_server.extend(found);
            // Those of other requests are mentioned, and no service comes of them.
            let others =
                passes.iter().map(|pass| pass.whom(upstreams)).filter(|whom| *whom != first.whom(upstreams));
            of_server.extend(others.filter_map(|whom| Passes::of(listen, whom, true)));
        }
        of_server
    }

    /// Whether all requests go to one upstream as they are.
    fn one_for_all(&self, passes: &[Pass<'_>], own: &[&Directive], place: &str, writer: &mut Writer) -> bool {
        let mut refuse = |origin: &Origin, wrong: String| {
            let holds = "a director reads no requests: all go to one group of real servers, as they are";
            writer.refuse(
                origin,
                place,
                Fault::new(wrong, holds, "keep nginx behind the director, as a real server"),
            );
            false
        };
        let mut good = true;
        let first = &passes[0];
        for pass in passes {
            let line = pass.directive.line();
            let origin = &pass.directive.origin;
            if pass.target.contains('$') {
                good = refuse(origin, format!("{line}: a variable says who gets the request"));
            } else if ["fastcgi_pass", "uwsgi_pass", "scgi_pass", "memcached_pass"]
                .contains(&pass.directive.name())
            {
                good =
                    refuse(origin, format!("{line}: nginx speaks another protocol to it than clients speak"));
            } else if pass.target != first.target {
                good = refuse(origin, format!("{line}: other requests go to {}", first.target));
            } else if !(pass.uri.is_empty() || pass.uri == "/" && pass.takes_all()) {
                good = refuse(origin, format!("{line}: paths are changed on their way"));
            }
        }
        let pages = error_pages(self.directive.block());
        for location in own.iter().filter(|location| !pages.contains(&location.words.last())) {
            good = refuse(&location.origin, format!("{}: nginx answers by itself", location.line()));
        }
        if good && !passes.iter().any(Pass::takes_all) {
            let location = first.location.map(Directive::line).unwrap_or_default();
            good = refuse(&first.directive.origin, format!("only {location} is passed on"));
        }
        good
    }

    /// Whether bytes go on as they come, in TLS or not.
    fn tls(&self, listen: &Directive, pass: &Pass<'_>, place: &str, writer: &mut Writer) -> bool {
        let is_on = |name: &str| {
            let found = self.directive.block().iter().filter(|directive| directive.name() == name);
            found.map(|directive| directive.argument() == "on").next_back().unwrap_or(false)
        };
        let comes = listen.has("ssl") || listen.has("quic") || is_on("ssl");
        let goes =
            if self.is_stream() { is_on("proxy_ssl") } else { ["https", "grpcs"].contains(&pass.scheme) };
        let (line, target) = (listen.line(), pass.target);
        if listen.has("proxy_protocol") {
            let wrong = format!("{line}: clients are told by a PROXY header that comes with the connection");
            let fault = Fault::new(
                wrong,
                "the real servers would get that header",
                "let them read it, and remove it here",
            );
            writer.refuse(&listen.origin, place, fault);
            return false;
        }
        let (wrong, holds) = match (comes, goes) {
            (false, false) => return true,
            (true, true) => {
                let wrong = format!("{line}: TLS ends at nginx and begins anew");
                let holds =
                    format!("here it ends at the servers of {target}: clients see their certificates");
                let advice = "see that they have a certificate for the names that clients ask for";
                writer.notice(&listen.origin, place, Fault::new(wrong, holds, advice));
                return true;
            }
            (true, false) => (
                "TLS ends at nginx",
                format!("a director passes TLS on, and the servers of {target} speak none"),
            ),
            (false, true) => {
                ("TLS begins at nginx", format!("clients would have to speak TLS to the servers of {target}"))
            }
        };
        let advice = "let the real servers end TLS, or keep nginx behind the director, as a real server";
        writer.refuse(&listen.origin, place, Fault::new(format!("{line}: {wrong}"), holds, advice));
        false
    }
}

/// Paths of pages that nginx sends when there is an error.
fn error_pages(block: &[Directive]) -> Vec<Option<&String>> {
    let own = block.iter().filter(|directive| directive.name() == "error_page");
    let own = own.map(|directive| directive.words.last());
    own.chain(block.iter().flat_map(|directive| error_pages(directive.block()))).collect()
}

/// Whether nothing in a server changes what clients get; the rest is told.
fn judge(block: &[Directive], place: &str, writer: &mut Writer) -> bool {
    let mut good = true;
    for directive in block {
        good &= told(directive, place, true, writer);
        let (mut passes, mut own) = (Vec::new(), Vec::new());
        walk(std::slice::from_ref(directive), None, &mut passes, &mut own);
        // What nginx answers itself was told.
        if directive.name() != "if" && !passes.is_empty() {
            good &= judge(directive.block(), place, writer);
        }
    }
    good
}

/// Tells of a directive; false when it cannot be taken. `all`: of those that change nothing, too.
fn told(directive: &Directive, place: &str, all: bool, writer: &mut Writer) -> bool {
    let (name, line) = (directive.name(), printable(&directive.line(), 80));
    if READ.contains(&name) || name.ends_with("_pass") || DEFAULTS.contains(&(name, directive.argument())) {
        return true;
    }
    let begins = |known: &str| known.strip_suffix('*').map_or(known == name, |begin| name.starts_with(begin));
    if let Some((_, what)) = CHANGES.iter().find(|(known, _)| begins(known)) {
        let holds = "a director reads and changes no requests and answers";
        let advice = "let the real servers do it, or keep nginx behind the director, as a real server";
        writer.refuse(&directive.origin, place, Fault::new(format!("{line}: {what}"), holds, advice));
        return false;
    }
    let field = directive.argument().to_lowercase();
    let instead = match name {
        "proxy_set_header"
            if field.starts_with("x-forwarded") || ["x-real-ip", "forwarded"].contains(&field.as_str()) =>
        {
            let wrong = format!("{line}: real servers get no such field");
            let holds = "they see the client's own address";
            let advice = "let them log and decide by that, and trust no such field of a client's";
            writer.notice(&directive.origin, place, Fault::new(wrong, holds, advice));
            return true;
        }
        "error_page" => {
            let wrong = format!("{line}: when no real server answers, nobody sends that page");
            let holds = "clients are turned away or left without an answer";
            let advice = "name a sorry_server that has it";
            writer.notice(&directive.origin, place, Fault::new(wrong, holds, advice));
            return true;
        }
        "proxy_set_header" => "real servers get what the client says",
        _ if all && directive.block.is_none() => {
            "connections go from client to real server: there is no proxy between them"
        }
        _ => return true,
    };
    writer.tell(&directive.origin, place, &line, Fate::Instead(instead));
    true
}

/// `80`, `192.0.2.10`, `192.0.2.10:80`, `[::]:80`, `*:80`.
fn listen_address(word: &str) -> Option<SocketAddr> {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if let Ok(l4_port) = word.strip_prefix("*:").unwrap_or(word).parse() {
        return Some(SocketAddr::new(any, l4_port));
    }
    let bare = word.trim_start_matches('[').trim_end_matches(']');
    word.parse().ok().or_else(|| bare.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 80)))
}
