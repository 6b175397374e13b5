//! keepalived.conf from a seed: every keyword, with ordinary values and odd ones, in any order, twice, misspelled, as older versions
//! had it, with comments, quotation marks, definitions and included files.

use std::io;
use std::path::{Path, PathBuf};

use shunt_config::import::Fate;
use shunt_config::import::keepalived::keywords::Block;

use super::words::{ADDRESSES, INTERFACES, track_weight, value};
use crate::random::numbers::Numbers;

/// Keywords that reach beyond reading: they start or make something, take keepalived elsewhere, or need what no file brings.
const ELSEWHERE: &[&str] = &[
    "net_namespace",
    "net_namespace_ipvs",
    "instance",
    "use_pid_dir",
    "config_save_dir",
    "tmp_config_directory",
    "umask",
    "startup_script",
    "shutdown_script",
    "vrrp_notify_fifo",
    "vrrp_notify_fifo_script",
    "lvs_notify_fifo",
    "lvs_notify_fifo_script",
    "notify_fifo",
    "notify_fifo_script",
    "reload_file",
    "enable_dbus",
    "dbus_service_name",
    "vmac_prefix",
    "vmac_addr_prefix",
    "snmp_socket",
    "linkbeat_use_polling",
];

/// Writes the case of a seed, and the files that it includes.
///
/// # Errors
/// The folder takes none.
pub fn write(seed: u64, folder: &Path) -> io::Result<PathBuf> {
    let mut case = Case { numbers: Numbers::new(seed), text: String::new(), depth: 0 };
    let included = format!("case_{seed}.inc");
    case.file(&included);
    let file = folder.join(format!("case_{seed}.conf"));
    if case.text.contains(&included) {
        let mut part = Case { numbers: Numbers::new(!seed), text: String::new(), depth: 0 };
        part.virtual_server(9);
        std::fs::write(folder.join(&included), part.text)?;
    }
    std::fs::write(&file, case.text)?;
    Ok(file)
}

struct Case {
    numbers: Numbers,
    text: String,
    depth: usize,
}

impl Case {
    fn file(&mut self, included: &str) {
        let mut parts: Vec<usize> = (0..9).collect();
        if self.numbers.percent(25) {
            // Any order; keepalived takes some things by it.
            for at in (1..parts.len()).rev() {
                let other = self.numbers.below(at + 1);
                parts.swap(at, other);
            }
        }
        let (instances, servers) = (self.numbers.below(3), self.numbers.below(3));
        for part in parts {
            self.comment();
            match part {
                0 if self.numbers.percent(70) => self.globals(),
                1 if instances > 0 && self.numbers.percent(40) => self.tracked(),
                2 if instances == 2 && self.numbers.percent(40) => self.group(),
                3 => (0..instances).for_each(|number| self.instance(number)),
                4 if self.numbers.percent(30) => self.virtual_group(),
                5 => (0..servers).for_each(|number| self.virtual_server(number)),
                6 if self.numbers.percent(10) => self.routes("static_routes"),
                7 if self.numbers.percent(8) => self.line(&format!("include {included}")),
                8 if self.numbers.percent(10) => self.definitions(),
                _ => {}
            }
        }
        if self.numbers.percent(3) {
            self.line("}");
        }
    }

    /// A line, sometimes with what stands on lines beside their words.
    fn line(&mut self, line: &str) {
        let indent = if self.numbers.percent(90) { "    ".repeat(self.depth) } else { "\t".to_owned() };
        let end = self.numbers.weighted(&[
            (92, ""),
            (2, " # a comment"),
            (2, " ! another"),
            (2, "   "),
            (1, "\t"),
            (1, "\r"),
        ]);
        self.text += &format!("{indent}{line}{end}\n");
        if self.numbers.percent(1) && !line.contains(['{', '}']) {
            self.text += &format!("{indent}{line}\n");
        }
    }

    fn comment(&mut self) {
        if self.numbers.percent(10) {
            let line = self.numbers.pick(&["", "# a comment {", "! a \"comment", "   ", "#}"]);
            self.line(line);
        }
    }

    fn block(&mut self, head: &str, inside: impl FnOnce(&mut Self)) {
        let open = self.numbers.weighted(&[(90, " {"), (6, "{"), (2, "\n{"), (2, " { ")]);
        self.line(&format!("{head}{open}"));
        self.depth += 1;
        inside(self);
        self.depth -= 1;
        self.line("}");
    }

    /// So many keywords of a block, beside those that `skip` names, which the caller writes.
    fn keywords(&mut self, block: &'static str, most: usize, skip: &[&str]) {
        let known = Block(block).keywords();
        for _ in 0..self.numbers.below(most + 1) {
            let (keyword, fate) = known[self.numbers.below(known.len())];
            let is_refused = matches!(fate, Fate::Refused(_)) && !self.numbers.percent(3);
            if is_refused || ELSEWHERE.contains(&keyword) || skip.contains(&keyword) {
                continue;
            }
            let value = value(keyword, &mut self.numbers);
            let keyword = self.misspelled(keyword);
            self.comment();
            self.line(format!("{keyword} {value}").trim_end());
        }
    }

    /// The keyword, or rarely one that nobody knows.
    fn misspelled(&mut self, keyword: &str) -> String {
        if !self.numbers.percent(2) {
            return keyword.to_owned();
        }
        let mut letters: Vec<char> = keyword.chars().collect();
        let at = self.numbers.below(letters.len().saturating_sub(1));
        match self.numbers.below(3) {
            0 => drop(letters.remove(at)),
            1 => letters.swap(at, at + 1),
            _ => letters.insert(at, 'x'),
        }
        letters.into_iter().collect()
    }

    fn globals(&mut self) {
        self.block("global_defs", |case| {
            if case.numbers.percent(60) {
                case.line("script_user root");
            }
            if case.numbers.percent(30) {
                case.block("notification_email", |case| {
                    case.line("ops@example.org");
                    if case.numbers.percent(30) {
                        case.line("b@example.org c@example.org");
                    }
                });
            }
            case.keywords("global_defs", 6, &["notification_email"]);
        });
    }

    fn tracked(&mut self) {
        self.block("vrrp_script chk", |case| {
            let script = value("script", &mut case.numbers);
            case.line(&format!("script {script}"));
            case.keywords("vrrp_script", 4, &["script"]);
        });
        if self.numbers.percent(50) {
            let head = self.numbers.pick(&["track_file tf", "vrrp_track_file tf"]);
            self.block(head, |case| {
                case.line("file /etc/hostname");
                case.keywords("track_file", 2, &["file"]);
            });
        }
        if self.numbers.percent(50) {
            self.block("vrrp_track_process nginx", |case| {
                case.line("process nginx");
                case.keywords("vrrp_track_process", 3, &["process"]);
            });
        }
    }

    fn group(&mut self) {
        self.block("vrrp_sync_group VG", |case| {
            let members: &[&str] =
                case.numbers.pick(&[&["VI_0", "VI_1"][..], &["VI_0", "VI_1", "VI_7"], &["VI_0"]]);
            case.block("group", |case| members.iter().for_each(|member| case.line(member)));
            let skip =
                ["group", "track_interface", "track_script", "track_file", "track_process", "track_bfd"];
            case.keywords("vrrp_sync_group", 3, &skip);
            case.tracks();
        });
    }

    fn tracks(&mut self) {
        let tracked: &[(&str, &[&str])] = &[
            ("track_interface", &["eth0", "eth1"]),
            ("track_script", &["chk", "gone"]),
            ("track_file", &["tf"]),
            ("track_process", &["nginx"]),
        ];
        for (keyword, names) in tracked {
            if self.numbers.percent(15) {
                self.block(keyword, |case| {
                    for name in *names {
                        if case.numbers.percent(70) {
                            let weight = track_weight(&mut case.numbers);
                            case.line(&format!("{name}{weight}"));
                        }
                    }
                });
            }
        }
    }

    fn instance(&mut self, number: usize) {
        self.block(&format!("vrrp_instance VI_{number}"), |case| {
            let interface = case.numbers.pick(INTERFACES);
            let mut lines =
                vec![format!("interface {interface}"), format!("virtual_router_id {}", 51 + number)];
            for keyword in ["state", "priority", "advert_int"] {
                if case.numbers.percent(70) {
                    lines.push(format!("{keyword} {}", value(keyword, &mut case.numbers)));
                }
            }
            lines.into_iter().for_each(|line| case.line(&line));
            if case.numbers.percent(40) {
                case.block("authentication", |case| {
                    let (kind, password) =
                        (value("auth_type", &mut case.numbers), value("auth_pass", &mut case.numbers));
                    case.line(&format!("auth_type {kind}"));
                    case.line(&format!("auth_pass {password}"));
                });
            }
            let is_v6 = case.numbers.percent(10);
            case.vips("virtual_ipaddress", number, is_v6);
            if case.numbers.percent(15) {
                let other_family = case.numbers.percent(50);
                case.vips("virtual_ipaddress_excluded", number + 4, is_v6 != other_family);
            }
            if case.numbers.percent(15) {
                case.block("unicast_peer", |case| {
                    let peer = case.numbers.pick(&[
                        "192.0.2.3",
                        "192.0.2.3/24",
                        "198.18.0.3",
                        "192.0.2.3 min_ttl 254",
                    ]);
                    case.line(peer);
                });
            }
            case.tracks();
            if case.numbers.percent(5) {
                case.routes("virtual_routes");
            }
            let skip = [
                "interface",
                "virtual_router_id",
                "authentication",
                "virtual_ipaddress",
                "virtual_ipaddress_excluded",
                "unicast_peer",
                "virtual_routes",
                "virtual_rules",
                "track_interface",
                "track_script",
                "track_file",
                "track_process",
                "track_bfd",
                "use_vmac",
                "use_ipvlan",
                "vmac_xmit_base",
            ];
            case.keywords("vrrp_instance", 7, &skip);
        });
    }

    fn vips(&mut self, keyword: &str, number: usize, is_v6: bool) {
        self.block(keyword, |case| {
            if is_v6 {
                case.line(&format!("fe80::{number}:1"));
                case.line(&format!("2001:db8::{number}/64"));
                return;
            }
            for last in 0..=case.numbers.below(3) {
                let vip = format!("192.0.2.{}", 100 + 10 * number + last);
                let more = case.numbers.weighted(&[
                    (60, ""),
                    (15, "/24"),
                    (5, "/32 dev eth0"),
                    (5, "/24 dev eth1 label eth1:1"),
                    (5, " dev eth0 scope global"),
                    (5, "/24 brd 192.0.2.255 dev eth0"),
                    (2, "/33"),
                    (3, " dev lo"),
                ]);
                case.line(&format!("{vip}{more}"));
            }
        });
    }

    fn routes(&mut self, keyword: &str) {
        self.block(keyword, |case| {
            let route = case.numbers.pick(&[
                "10.9.0.0/16 via 192.0.2.1 dev eth0",
                "default via 192.0.2.1",
                "src 192.0.2.100 to 10.8.0.0/16 via 192.0.2.1 dev eth0",
                "10.7.0.0/16 gw 192.0.2.1 dev eth0 metric 7",
                "10.6.0.0/16 dev eth1",
            ]);
            case.line(route);
        });
    }

    fn virtual_group(&mut self) {
        self.block("virtual_server_group G", |case| {
            case.line("192.0.2.50 80");
            let further = case.numbers.pick(&[
                "192.0.2.51 81",
                "192.0.2.52-54 80",
                "fwmark 9",
                "192.0.2.55",
                "2001:db8::50 80",
            ]);
            if case.numbers.percent(60) {
                case.line(further);
            }
        });
    }

    fn virtual_server(&mut self, number: usize) {
        let l4_port = 80 + number;
        let head = match self.numbers.below(20) {
            0 => "virtual_server group G".to_owned(),
            1 => format!("virtual_server fwmark {}", number + 1),
            2 => format!("virtual_server 2001:db8::10 {l4_port}"),
            3 => "virtual_server 192.0.2.10".to_owned(),
            4 => "virtual_server 192.0.2.10 80".to_owned(),
            _ => format!("virtual_server 192.0.2.10 {l4_port}"),
        };
        let is_v6 = head.contains("2001");
        self.block(&head, |case| {
            for (keyword, percent) in [("lb_algo", 80), ("lb_kind", 90), ("protocol", 90), ("delay_loop", 60)]
            {
                if case.numbers.percent(percent) {
                    let value = value(keyword, &mut case.numbers);
                    case.line(format!("{keyword} {value}").trim_end());
                }
            }
            let skip = [
                "real_server",
                "lb_algo",
                "lvs_sched",
                "lb_kind",
                "lvs_method",
                "protocol",
                "ip_family",
                "persistence_engine",
            ];
            case.keywords("virtual_server", 6, &skip);
            for _ in 0..=case.numbers.below(3) {
                case.real_server(is_v6);
            }
            if case.numbers.percent(10) {
                case.keywords("virtual_server", 2, &skip);
            }
        });
    }

    fn real_server(&mut self, is_v6: bool) {
        let address = if is_v6 { "2001:db8::21" } else { self.numbers.pick(ADDRESSES) };
        let l4_port = self.numbers.weighted(&[(80, " 80"), (12, " 8080"), (4, ""), (4, " 0")]);
        self.block(&format!("real_server {address}{l4_port}"), |case| {
            let checks =
                ["HTTP_GET", "SSL_GET", "TCP_CHECK", "SMTP_CHECK", "DNS_CHECK", "MISC_CHECK", "BFD_CHECK"];
            let others = ["PING_CHECK", "UDP_CHECK", "FILE_CHECK"];
            let skip: Vec<&str> = checks.into_iter().chain(others).chain(["lb_kind", "lvs_method"]).collect();
            case.keywords("real_server", 5, &skip);
            let many = case.numbers.weighted(&[(20, 0), (65, 1), (15, 2)]);
            for _ in 0..many {
                case.check();
            }
        });
    }

    fn check(&mut self) {
        let kinds = [
            (25, "HTTP_GET"),
            (10, "SSL_GET"),
            (25, "TCP_CHECK"),
            (8, "SMTP_CHECK"),
            (8, "DNS_CHECK"),
            (12, "MISC_CHECK"),
            (6, "PING_CHECK"),
            (6, "UDP_CHECK"),
        ];
        let kind = self.numbers.weighted(&kinds);
        self.block(kind, |case| match kind {
            "HTTP_GET" | "SSL_GET" => {
                let urls = case.numbers.weighted(&[(3, 0), (80, 1), (17, 2)]);
                for _ in 0..urls {
                    case.block("url", |case| {
                        let path = value("path", &mut case.numbers);
                        case.line(format!("path {path}").trim_end());
                        case.keywords("url", 2, &["path", "regex_stack", "regex_options"]);
                    });
                }
                case.keywords("HTTP_GET, SSL_GET", 4, &["url"]);
            }
            "SMTP_CHECK" => case.keywords("SMTP_CHECK", 4, &["host"]),
            "MISC_CHECK" => {
                let script = value("misc_path", &mut case.numbers);
                case.line(&format!("misc_path {script}"));
                case.keywords("MISC_CHECK", 4, &["misc_path"]);
            }
            "TCP_CHECK" => case.keywords("TCP_CHECK", 5, &[]),
            "DNS_CHECK" => case.keywords("DNS_CHECK", 4, &[]),
            "PING_CHECK" => case.keywords("PING_CHECK", 4, &[]),
            _ => case.keywords("UDP_CHECK", 4, &[]),
        });
    }

    fn definitions(&mut self) {
        self.line("$PORT=8088");
        self.line("$REAL=192.0.2.77");
        self.block("virtual_server 192.0.2.60 $PORT", |case| {
            case.line("protocol TCP");
            case.line("lb_kind NAT");
            case.line("real_server ${REAL} ${PORT} { weight 3 }");
            case.line("@main real_server 192.0.2.78 80 { }");
            case.line("@^main real_server 192.0.2.79 80 { }");
        });
    }
}
