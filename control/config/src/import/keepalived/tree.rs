//! Lines of keepalived.conf as statements with their blocks, as keepalived finds them.
//!
//! keepalived knows by each keyword whether a block follows. A `{` behind a word that it does not know is ignored, and
//! the `}` that was meant to end it ends the block around it: what follows is read as if it stood there. Each of its
//! processes reads the whole file, and skips what is the other's from brace to brace.

use shunt_model::fault::Origin;
use shunt_model::fault::{Fault, printable};

use super::expand::Line;
use super::words::{Token, tokens};
use crate::import::writer::Writer;

/// A keyword, its values, and what stands between its braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The keyword and its values, at least one.
    pub words: Vec<String>,
    /// Where each word stands.
    pub origins: Vec<Origin>,
    /// The line as it stands in the file, where its words leave something out.
    pub raw: Option<Box<str>>,
    /// Its block; none without braces.
    pub block: Option<Vec<Statement>>,
    /// The block that it stands in: `file`, `virtual_server`, `checker`.
    pub within: &'static str,
}

impl Statement {
    /// The keyword.
    #[must_use]
    pub fn keyword(&self) -> &str {
        &self.words[0]
    }

    /// Its values.
    #[must_use]
    pub fn values(&self) -> &[String] {
        &self.words[1..]
    }

    /// Where it stands.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origins[0]
    }

    /// The statements of its block.
    #[must_use]
    pub fn statements(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    /// The line as it was written.
    #[must_use]
    pub fn line(&self) -> String {
        self.words.join(" ")
    }
}

/// What keepalived's processes read of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// The one that starts the others, which have `global_defs` from it.
    Parent,
    /// The one that speaks VRRP.
    Vrrp,
    /// The one that checks real servers.
    Checkers,
}

impl Process {
    /// True for keywords of the file that this process leaves to another one: it passes over their blocks, brace by brace.
    fn skips(self, keyword: &str) -> bool {
        match self {
            Self::Parent => keyword != "global_defs" && !matches!(Inner::of("file", keyword), Inner::Nothing),
            Self::Vrrp => [
                "global_defs",
                "virtual_server",
                "virtual_server_group",
                "SSL",
                "local_address_group",
                "deny_address_group",
                "allow_address_group",
                "tunnel_group",
            ]
            .contains(&keyword),
            Self::Checkers => [
                "global_defs",
                "vrrp_instance",
                "vrrp_sync_group",
                "vrrp_script",
                "vrrp_track_process",
                "static_ipaddress",
                "static_routes",
                "static_rules",
                "track_group",
                "garp_group",
                "linkbeat_interfaces",
                "interface_up_down_delays",
            ]
            .contains(&keyword),
        }
    }
}

/// Blocks of other versions than 2.2.7.
const LATER: &[&str] = &[
    "auth_hmac",
    "local_address_group",
    "deny_address_group",
    "allow_address_group",
    "tunnel_group",
    "tunnel_entry",
];

/// What follows a keyword.
enum Inner {
    /// Nothing.
    Nothing,
    /// A block of keywords; what it is called.
    Keywords(&'static str),
    /// A block of lines without keywords.
    Lines,
}

impl Inner {
    fn of(block: &str, keyword: &str) -> Self {
        match (block, keyword) {
            (
                "file",
                "virtual_server_group"
                | "local_address_group"
                | "deny_address_group"
                | "allow_address_group"
                | "static_ipaddress"
                | "static_routes"
                | "static_rules"
                | "linkbeat_interfaces"
                | "interface_up_down_delays",
            )
            | ("global_defs", "notification_email")
            | ("track_group", "group")
            | ("garp_group", "interfaces")
            | (
                "vrrp_sync_group",
                "group" | "track_interface" | "track_script" | "track_file" | "track_process" | "track_bfd",
            )
            | (
                "vrrp_instance",
                "unicast_peer"
                | "track_interface"
                | "track_script"
                | "track_file"
                | "track_process"
                | "track_bfd"
                | "virtual_ipaddress"
                | "virtual_ipaddress_excluded"
                | "virtual_routes"
                | "virtual_rules",
            ) => Self::Lines,
            ("file", "global_defs") => Self::Keywords("global_defs"),
            ("file", "vrrp_instance") => Self::Keywords("vrrp_instance"),
            ("file", "vrrp_sync_group") => Self::Keywords("vrrp_sync_group"),
            ("file", "vrrp_script") => Self::Keywords("vrrp_script"),
            ("file", "vrrp_track_process") => Self::Keywords("vrrp_track_process"),
            ("file", "track_file" | "vrrp_track_file") => Self::Keywords("track_file"),
            ("file", "track_group") => Self::Keywords("track_group"),
            ("file", "garp_group") => Self::Keywords("garp_group"),
            ("file", "bfd_instance") => Self::Keywords("bfd_instance"),
            ("file", "tunnel_group") => Self::Keywords("tunnel_group"),
            ("tunnel_group", "tunnel_entry") => Self::Lines,
            ("file", "SSL") => Self::Keywords("SSL"),
            ("file", "virtual_server") => Self::Keywords("virtual_server"),
            ("vrrp_instance", "authentication") => Self::Keywords("authentication"),
            ("vrrp_instance", "auth_hmac") => Self::Keywords("auth_hmac"),
            ("virtual_server", "real_server") => Self::Keywords("real_server"),
            (
                "real_server",
                "HTTP_GET" | "SSL_GET" | "TCP_CHECK" | "SMTP_CHECK" | "DNS_CHECK" | "MISC_CHECK"
                | "PING_CHECK" | "UDP_CHECK" | "FILE_CHECK" | "BFD_CHECK",
            ) => Self::Keywords("checker"),
            ("checker", "url") => Self::Keywords("url"),
            ("checker", "host") => Self::Keywords("host"),
            _ => Self::Nothing,
        }
    }
}

/// One line of the file, or a brace of it.
enum Item {
    Words(Statement),
    Open(Origin),
    Close(Origin),
}

/// The lines of a file in words.
pub struct Items(Vec<Item>);

impl Items {
    /// Parts lines into words.
    pub fn of(lines: &[Line], writer: &mut Writer) -> Self {
        let mut items = Vec::new();
        for line in lines {
            let (tokens, open) = tokens(&line.text);
            if open {
                let holds = "keepalived loses what follows the mark, and stops where a value is missing then";
                let fault = Fault::new("a quotation mark \" is not closed", holds, "close it");
                writer.ignored(&line.origin, "file", fault);
            }
            let raw = line.text.contains(['"', '\'', '\\']).then_some(line.text.as_str());
            let mut statement: Option<Statement> = None;
            let mut begin = 0;
            for token in tokens {
                match token {
                    Token::Word(word) => {
                        let before = line.text.get(..word.at).unwrap_or_default().chars().count();
                        let column = line.origin.column + if line.verbatim { before } else { 0 };
                        let origin = Origin { column, ..line.origin.clone() };
                        let statement = statement.get_or_insert_with(|| {
                            begin = word.at;
                            Statement {
                                words: Vec::new(),
                                origins: Vec::new(),
                                raw: None,
                                block: None,
                                within: "file",
                            }
                        });
                        statement.words.push(word.text);
                        statement.origins.push(origin);
                    }
                    brace => {
                        items.extend(statement.take().map(|one| Item::Words(with_raw(one, raw, begin))));
                        let origin = line.origin.clone();
                        items.push(if brace == Token::Open {
                            Item::Open(origin)
                        } else {
                            Item::Close(origin)
                        });
                    }
                }
            }
            items.extend(statement.take().map(|one| Item::Words(with_raw(one, raw, begin))));
        }
        Self(items)
    }

    /// The statements that one of keepalived's processes finds.
    pub fn statements(&self, process: Process, writer: &mut Writer) -> Vec<Statement> {
        let mut reader = Reader { items: &self.0, next: 0, process, unclosed: None, writer };
        let statements = reader.block("file", 0, false);
        if let Some(origin) = reader.unclosed {
            let holds = "keepalived takes the end of the file for its end";
            reader.writer.ignored(&origin, "file", Fault::new("a block is not closed", holds, "add its }"));
        }
        statements
    }
}

/// The part of a line that a statement is, up to the brace behind it.
fn with_raw(statement: Statement, line: Option<&str>, begin: usize) -> Statement {
    let raw = line.and_then(|line| line.get(begin..)).map(|rest| {
        let mut quoted = false;
        let end = rest.bytes().position(|byte| {
            quoted ^= byte == b'"';
            !quoted && [b'{', b'}'].contains(&byte)
        });
        rest[..end.unwrap_or(rest.len())].trim_end().into()
    });
    Statement { raw, ..statement }
}

struct Reader<'i, 'w> {
    items: &'i [Item],
    next: usize,
    process: Process,
    /// Where a block begins that does not end.
    unclosed: Option<Origin>,
    writer: &'w mut Writer,
}

impl<'i> Reader<'i, '_> {
    fn item(&mut self) -> Option<&'i Item> {
        let item = self.items.get(self.next)?;
        self.next += 1;
        Some(item)
    }

    /// A block of keywords up to its `}`; `needs_open` when its `{` is still to come.
    fn block(&mut self, name: &'static str, depth: usize, mut needs_open: bool) -> Vec<Statement> {
        let mut statements: Vec<Statement> = Vec::new();
        while let Some(item) = self.item() {
            match item {
                Item::Open(_) if needs_open => needs_open = false,
                Item::Open(origin) => self.ignored_brace(origin, name, statements.last()),
                Item::Close(_) if depth > 0 => return statements,
                Item::Close(origin) => {
                    let holds = "keepalived ignores it";
                    self.writer.ignored(
                        origin,
                        "file",
                        Fault::new("a } that ends no block", holds, "remove it"),
                    );
                }
                Item::Words(statement) => {
                    if needs_open {
                        needs_open = false;
                        let holds = "keepalived reads on as if it were there";
                        let fault = Fault::new("a { is missing before this line", holds, "add it");
                        self.writer.ignored(statement.origin(), name, fault);
                    }
                    let mut statement = statement.clone();
                    if depth == 0 && self.process.skips(statement.keyword()) {
                        self.skip();
                        continue;
                    }
                    statement.within = name;
                    let origin = statement.origin().clone();
                    let is_open = matches!(self.items.get(self.next), Some(Item::Open(_)));
                    statement.block = match Inner::of(name, statement.keyword()) {
                        // keepalived 2.2.7 does not know it, and takes no line behind it.
                        _ if !is_open && LATER.contains(&statement.keyword()) => None,
                        Inner::Nothing => None,
                        Inner::Keywords(inner) => Some(self.block(inner, depth + 1, true)),
                        Inner::Lines => Some(self.lines(statement.keyword())),
                    };
                    if statement.block.is_some() && self.next > self.items.len() {
                        self.unclosed.get_or_insert(origin);
                    }
                    statements.push(statement);
                }
            }
        }
        // One past the end tells that a block was not closed.
        self.next = self.items.len() + usize::from(depth > 0);
        statements
    }

    /// The lines of a block without keywords.
    fn lines(&mut self, name: &str) -> Vec<Statement> {
        let mut statements = Vec::new();
        let mut needs_open = true;
        while let Some(item) = self.item() {
            match item {
                Item::Open(_) if needs_open => needs_open = false,
                Item::Open(origin) => self.ignored_brace(origin, "the block", statements.last()),
                Item::Close(_) => return statements,
                Item::Words(statement) => {
                    if std::mem::take(&mut needs_open) {
                        let holds = format!("keepalived takes all up to the next }} for lines of {name}");
                        let fault = Fault::new("a { is missing before this line", holds, "add it");
                        self.writer.ignored(statement.origin(), name, fault);
                    }
                    statements.push(statement.clone());
                }
            }
        }
        self.next = self.items.len() + 1;
        statements
    }

    /// From a `{` that comes next to its `}`.
    fn skip(&mut self) {
        if !matches!(self.items.get(self.next), Some(Item::Open(_))) {
            return;
        }
        let mut depth = 0_usize;
        while let Some(item) = self.item() {
            match item {
                Item::Open(_) => depth += 1,
                Item::Close(_) => depth -= 1,
                Item::Words(_) => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn ignored_brace(&mut self, origin: &Origin, place: &str, owner: Option<&Statement>) {
        let around = if place == "file" { "no block" } else { place };
        let (wrong, advice) = match owner {
            Some(owner) => {
                let owner = printable(owner.keyword(), 60);
                (format!("a {{ behind {owner}, which has no block"), format!("see what {owner} should be"))
            }
            None => ("a { that begins no block".to_owned(), "remove it".to_owned()),
        };
        let holds = format!(
            "keepalived ignores it, reads the lines behind it as if they stood in front of it, and takes the next }} for the end of {around}"
        );
        self.writer.ignored(origin, place, Fault::new(wrong, holds, advice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn statements(text: &str, process: Process, writer: &mut Writer) -> Vec<Statement> {
        let line = |(number, text): (usize, &str)| Line {
            text: text.trim().to_owned(),
            origin: Origin { file: Path::new("k").into(), line: number + 1, column: 1 },
            verbatim: true,
        };
        let lines: Vec<Line> = text.lines().enumerate().map(line).collect();
        Items::of(&lines, writer).statements(process, writer)
    }

    fn read(text: &str) -> (String, Vec<String>) {
        let mut writer = Writer::default();
        let statements = statements(text, Process::Checkers, &mut writer);
        (shown(&statements), writer.finish().notes.iter().map(|note| note.fault.wrong.clone()).collect())
    }

    fn shown(statements: &[Statement]) -> String {
        let one = |statement: &Statement| match &statement.block {
            Some(block) => format!("{}[{}]", statement.line(), shown(block)),
            None => statement.line(),
        };
        statements.iter().map(one).collect::<Vec<_>>().join(";")
    }

    #[test]
    fn blocks_in_every_spelling() {
        let wanted = "virtual_server 192.0.2.10 80[lb_algo rr;real_server 192.0.2.21 80[weight 1]];end";
        for text in [
            "virtual_server 192.0.2.10 80 {\nlb_algo rr\nreal_server 192.0.2.21 80 {\nweight 1\n}\n}\nend",
            "virtual_server 192.0.2.10 80{\nlb_algo rr\nreal_server 192.0.2.21 80\n{\nweight 1 } }\nend",
            "virtual_server 192.0.2.10 80 { lb_algo rr\nreal_server 192.0.2.21 80 { weight 1\n}}\nend",
        ] {
            assert_eq!(read(text), (wanted.to_owned(), vec![]), "{text}");
        }
    }

    #[test]
    fn braces_that_do_not_match() {
        let (statements, notes) = read("SSL {\nca a");
        assert_eq!((statements.as_str(), notes), ("SSL[ca a]", vec!["a block is not closed".to_owned()]));
        let (statements, notes) = read("a\n}\nb");
        assert_eq!((statements.as_str(), notes.len()), ("a;b", 1));
        let (statements, notes) = read("{\na\n}\nb");
        assert_eq!((statements.as_str(), notes.len()), ("a;b", 2));
        let (statements, notes) = read("SSL\nca a\n}\nb");
        assert_eq!((statements.as_str(), notes.len()), ("SSL[ca a];b", 1));
        let (_, notes) = read("script \"a\nb");
        assert_eq!(notes.len(), 1);
    }

    /// A mistake within global_defs, which the parent reads alone, does not reach the others.
    #[test]
    fn each_process_passes_over_the_blocks_of_others() {
        let text = "global_defs {\nnotification_email a@example.org\nrouter_id x\n}\nvrrp_instance a {\npriority 5\n}\n\
                    virtual_server 192.0.2.1 80 {\nlb_kind NAT\n}";
        let of = |process| shown(&statements(text, process, &mut Writer::default()));
        assert_eq!(of(Process::Vrrp), "vrrp_instance a[priority 5]");
        assert_eq!(of(Process::Checkers), "virtual_server 192.0.2.1 80[lb_kind NAT]");
        let parent = of(Process::Parent);
        assert!(
            parent.starts_with("global_defs[notification_email a@example.org[router_id x];vrrp_instance a"),
            "{parent}"
        );
    }

    /// The `}` of a block that keepalived does not know ends the block around it.
    #[test]
    fn a_word_that_is_not_known_has_no_block() {
        let text = "virtual_server a 80 {\nreal_server b 80 {\ntcp_check {\nretry 1\n}\n}\nreal_server c 80 {\n}\n}\nSSL {\n}";
        let (statements, notes) = read(text);
        assert_eq!(
            statements,
            "virtual_server a 80[real_server b 80[tcp_check;retry 1]];real_server c 80;SSL[]"
        );
        assert_eq!(notes.len(), 4, "{notes:?}");
    }

    /// The other process's blocks are skipped from brace to brace, whatever stands in them.
    #[test]
    fn what_belongs_to_the_other_process_is_skipped() {
        let text = "vrrp_instance a {\nwrong {\n}\n}\nSSL {\nca x\n}\nvrrp_script\nb";
        assert_eq!(read(text), ("SSL[ca x];b".to_owned(), vec![]));
    }
}
