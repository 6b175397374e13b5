//! Lines of keepalived.conf as statements with their blocks.

use super::expand::Line;
use super::words::{Token, tokens};
use crate::config::problem::Fault;
use crate::import::note::Origin;
use crate::import::writer::Writer;

/// A keyword, its values, and what stands between its braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The keyword and its values, at least one.
    pub words: Vec<String>,
    /// Where each word stands.
    pub origins: Vec<Origin>,
    /// Its block; none without braces.
    pub block: Option<Vec<Statement>>,
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

/// How deep blocks may stand in one another; keepalived's own reach five.
const DEPTH_MAX: usize = 16;

/// The statements of a file.
pub fn statements(lines: &[Line], writer: &mut Writer) -> Vec<Statement> {
    // The blocks that are open, each with the statement that it belongs to; the outermost is the file.
    let mut open: Vec<Vec<Statement>> = vec![Vec::new()];
    for line in lines {
        let tokens = match tokens(&line.text) {
            Ok(tokens) => tokens,
            Err(mark) => {
                let wrong = format!("a quotation mark {mark} is not closed");
                let fault = Fault::new(wrong, "text ends with the mark that it begins with", "close it");
                writer.refuse(&line.origin, "file", fault);
                continue;
            }
        };
        let mut statement: Option<Statement> = None;
        for token in tokens {
            match token {
                Token::Word(word) => {
                    let before = line.text.get(..word.at).unwrap_or_default().chars().count();
                    let column = line.origin.column + if line.verbatim { before } else { 0 };
                    let origin = Origin { column, ..line.origin.clone() };
                    let statement = statement.get_or_insert_with(|| Statement {
                        words: Vec::new(),
                        origins: Vec::new(),
                        block: None,
                    });
                    statement.words.push(word.text);
                    statement.origins.push(origin);
                }
                Token::Open => {
                    push(&mut open, statement.take());
                    begin(&mut open, &line.origin, writer);
                }
                Token::Close => {
                    push(&mut open, statement.take());
                    end(&mut open, &line.origin, writer);
                }
            }
        }
        push(&mut open, statement);
    }
    if open.len() > 1 {
        let missing = open.len() - 1;
        while open.len() > 1 {
            close(&mut open);
        }
        if let Some(line) = lines.last() {
            let wrong =
                format!("{missing} {} not closed", if missing == 1 { "block is" } else { "blocks are" });
            writer.refuse(
                &line.origin,
                "file",
                Fault::new(wrong, "every { has its }", "add what is missing"),
            );
        }
    }
    open.swap_remove(0)
}

fn push(open: &mut [Vec<Statement>], statement: Option<Statement>) {
    if let Some(block) = open.last_mut() {
        block.extend(statement);
    }
}

/// `{`: the block of the statement before it, which may stand on the line above.
fn begin(open: &mut Vec<Vec<Statement>>, origin: &Origin, writer: &mut Writer) {
    let owner = open.last_mut().and_then(|block| block.last_mut()).filter(|owner| owner.block.is_none());
    if owner.is_none() || open.len() > DEPTH_MAX {
        let holds =
            format!("a block follows its keyword, and blocks stand in one another at most {DEPTH_MAX} deep");
        writer.refuse(origin, "file", Fault::new("a { that begins no block", holds, "remove it"));
        // So that its } is found, too.
        let nobody = Statement { words: vec![String::new()], origins: vec![origin.clone()], block: None };
        push(open, Some(nobody));
    }
    open.push(Vec::new());
}

fn end(open: &mut Vec<Vec<Statement>>, origin: &Origin, writer: &mut Writer) {
    if open.len() == 1 {
        let fault = Fault::new("a } that ends no block", "every } has its {", "remove it");
        return writer.refuse(origin, "file", fault);
    }
    close(open);
    // A block of nobody was told of already.
    if let Some(block) = open.last_mut() {
        block.retain(|statement| !statement.words[0].is_empty() || statement.block.is_none());
    }
}

fn close(open: &mut Vec<Vec<Statement>>) {
    let Some(block) = open.pop() else { return };
    if let Some(owner) = open.last_mut().and_then(|outer| outer.last_mut()) {
        owner.block = Some(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> (String, Vec<String>) {
        let line = |(number, text): (usize, &str)| Line {
            text: text.trim().to_owned(),
            origin: Origin { file: Path::new("k").into(), line: number + 1, column: 1 },
            verbatim: true,
        };
        let lines: Vec<Line> = text.lines().enumerate().map(line).collect();
        let mut writer = Writer::default();
        let statements = statements(&lines, &mut writer);
        (shown(&statements), writer.finish().notes.iter().map(ToString::to_string).collect())
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
        let (statements, notes) = read("a {\nb {\nc");
        assert_eq!(statements, "a[b[c]]");
        assert_eq!(notes, ["k:3:1: file: 2 blocks are not closed: every { has its }: add what is missing"]);
        let (statements, notes) = read("a\n}\nb");
        assert_eq!((statements.as_str(), notes.len()), ("a;b", 1));
        let (statements, notes) = read("{\na\n}\nb");
        assert_eq!((statements.as_str(), notes.len()), ("b", 1));
        let (_, notes) = read("script \"a\nb");
        assert_eq!(notes.len(), 1);
        let (_, notes) = read(&"a {\n".repeat(40));
        assert!(notes.len() > 1);
    }
}
