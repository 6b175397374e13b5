//! nginx's `upstream` blocks, with the check of its check module, become services of the `server` blocks that pass to them.
//!
//! What only a proxy can do, and what changes what clients get, is refused by name ([`proxied`]).

mod balance;
mod directive;
mod proxied;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use shunt_model::fault::Fault;
use shunt_model::fault::Origin;

use self::balance::{Balance, is_about_failures, reals};
use self::directive::{Directive, read};
use self::proxied::{Passes, Server};
use super::files::Files;
use super::writer::{Imported, Writer, quoted};

/// Reads nginx.conf, or a file that it includes.
#[must_use]
pub fn import(path: &Path, files: &dyn Files) -> Imported {
    let mut writer = Writer::default();
    let origin = Origin { file: path.into(), line: 1, column: 1 };
    let directives = read(path, files, &origin, 0, &mut writer);
    let (mut upstreams, mut servers) = (Vec::new(), Vec::new());
    gather(&directives, None, &mut upstreams, &mut servers);
    let names: Vec<&str> = upstreams.iter().map(|upstream| upstream.argument()).collect();
    let passes = proxied::passes(&servers, &names, &mut writer);
    let implied = implied(&upstreams, &passes);
    for upstream in upstreams.into_iter().chain(&implied) {
        let name = upstream.argument();
        let mut of_upstream: Vec<&Passes> = Vec::new();
        for one in passes.iter().filter(|one| one.target == name) {
            if !of_upstream.iter().any(|other| other.listen == one.listen && other.protocol == one.protocol) {
                of_upstream.push(one);
            }
        }
        let nobody = Passes::nobody(name);
        if of_upstream.is_empty() {
            let holds = "a service has a VIP and a port, which a server block with proxy_pass would tell";
            let fault =
                Fault::new(format!("nothing passes to upstream {name}"), holds, "complete its listen");
            writer.notice(&upstream.origin, &upstream.line(), fault);
            of_upstream.push(&nobody);
        }
        for (number, one) in of_upstream.into_iter().filter(|one| !one.refused).enumerate() {
            service(upstream, one, number, files, &mut writer);
        }
    }
    if passes.is_empty() && writer.is_empty() {
        let fault = Fault::new(
            "no upstream, and nothing that is passed on",
            "what a server block passes on becomes a service",
            "name the file that has them",
        );
        writer.refuse(&origin, "file", fault);
    }
    writer.finish()
}

/// Upstream blocks and server blocks, wherever they stand.
fn gather<'d>(
    directives: &'d [Directive],
    context: Option<&'d Directive>,
    upstreams: &mut Vec<&'d Directive>,
    servers: &mut Vec<Server<'d>>,
) {
    for directive in directives {
        match directive.name() {
            "upstream" => upstreams.push(directive),
            "server" if directive.block.is_some() => servers.push(Server { directive, context }),
            "http" | "stream" => gather(directive.block(), Some(directive), upstreams, servers),
            _ => {}
        }
    }
}

/// A host that is passed to without an upstream block is one with a single server.
fn implied(upstreams: &[&Directive], passes: &[Passes]) -> Vec<Directive> {
    let words = |words: [&str; 2]| words.map(str::to_owned).to_vec();
    let mut implied: Vec<Directive> = Vec::new();
    for Passes { target, origin, .. } in passes.iter().filter(|one| !one.refused) {
        if !upstreams.iter().copied().chain(&implied).any(|known| known.argument() == target) {
            let server = Directive { origin: origin.clone(), words: words(["server", target]), block: None };
            let block = Some(vec![server]);
            implied.push(Directive { origin: origin.clone(), words: words(["upstream", target]), block });
        }
    }
    implied
}

fn service(upstream: &Directive, passes: &Passes, number: usize, files: &dyn Files, writer: &mut Writer) {
    let origin = &upstream.origin;
    let place = upstream.line();
    let is_ipv6 = passes.listen.is_some_and(|listen| listen.is_ipv6());
    let mut balance = Balance::new();
    let mut all = Vec::new();
    for directive in upstream.block() {
        if directive.name() == "server" {
            all.extend(reals(directive, is_ipv6, &mut balance, &place, files, writer));
        } else {
            balance.take(directive, &place, number == 0, writer);
        }
    }
    if all.is_empty() && balance.of_other_family > 0 && balance.backup.is_none() {
        let listen = passes.listen.map(|listen| listen.to_string()).unwrap_or_default();
        let (this, that) = if is_ipv6 { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
        let fault = Fault::new(
            format!(
                "nothing listens at {listen}: all servers of {} have {that} addresses",
                upstream.argument()
            ),
            "NAT keeps the family, where a proxy does not: clients of this address are not served",
            format!("give the real servers {this} addresses and import anew"),
        );
        return writer.notice(&passes.origin, &place, fault);
    }
    writer.table(origin, "[[service]]");
    let suffix = if number == 0 { String::new() } else { format!("-{}", number + 1) };
    writer.key(origin, "name", quoted(&format!("{}{suffix}", upstream.argument())));
    let listen = match passes.listen {
        Some(listen) if !listen.ip().is_unspecified() => listen,
        other => {
            writer.comment(origin, "the VIP in the place of this address:");
            let any =
                if is_ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
            SocketAddr::new(any, other.map_or(80, |listen| listen.port()))
        }
    };
    writer.key(origin, "listen", quoted(&listen.to_string()));
    writer.key(origin, "protocol", quoted(passes.protocol));
    balance.write(origin, all.len(), writer);
    writer.line(origin, "real = [");
    // Nginx takes the only server of a group to be well, whatever fails.
    let alone = all.len() == 1 && balance.backup.is_none();
    for (origin, mut keys) in all {
        if alone && keys.iter().any(|key| is_about_failures(key)) {
            writer.comment(&origin, "nginx ignores max_fails and fail_timeout of the only server");
            keys.retain(|key| !is_about_failures(key));
        }
        writer.line(&origin, &format!("  {{ {} }},", keys.join(", ")));
    }
    writer.line(origin, "]");
}
