//! nginx's language: directives and blocks, with those of files that are included.

use std::path::Path;

use shunt_model::fault::Fault;
use shunt_model::fault::Origin;

use crate::import::files::Files;
use crate::import::writer::Writer;

/// A directive, its arguments, and its block.
#[derive(Clone, Debug)]
pub struct Directive {
    pub origin: Origin,
    /// Its name and its arguments.
    pub words: Vec<String>,
    pub block: Option<Vec<Directive>>,
}

impl Directive {
    pub fn name(&self) -> &str {
        &self.words[0]
    }

    pub fn block(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    /// Its first argument; empty where it has none.
    pub fn argument(&self) -> &str {
        self.words.get(1).map(String::as_str).unwrap_or_default()
    }

    /// Whether one of its arguments is this.
    pub fn has(&self, word: &str) -> bool {
        self.words[1..].iter().any(|known| known == word)
    }

    pub fn line(&self) -> String {
        self.words.join(" ")
    }
}

/// How deep files may include each other, and blocks may stand in one another.
const DEPTH_MAX: usize = 16;

/// The directives of a file and of those that it includes.
pub fn read(
    path: &Path,
    files: &dyn Files,
    from: &Origin,
    depth: usize,
    writer: &mut Writer,
) -> Vec<Directive> {
    let text = match files.read(path) {
        Ok(text) if depth <= DEPTH_MAX => text,
        Ok(_) => {
            let holds = format!("files include each other at most {DEPTH_MAX} deep");
            let fault = Fault::new("included too deep", holds, "see whether a file includes itself");
            writer.refuse(from, "file", fault);
            return Vec::new();
        }
        Err(error) => {
            let wrong = format!("{} cannot be read ({error})", path.display());
            writer.refuse(from, "file", Fault::new(wrong, "it is a readable file", "correct its name"));
            return Vec::new();
        }
    };
    let mut tokens = Tokens { path, text: &text, at: 0, line: 1, column: 1 };
    let directives = block(&mut tokens, 0, writer);
    expand(directives, path, files, depth, writer)
}

fn expand(
    directives: Vec<Directive>,
    path: &Path,
    files: &dyn Files,
    depth: usize,
    writer: &mut Writer,
) -> Vec<Directive> {
    let mut expanded = Vec::new();
    for mut directive in directives {
        if directive.name() == "include" && directive.block.is_none() {
            let pattern = directive.words.get(1).map(String::as_str).unwrap_or_default();
            let pattern = path.parent().map(|folder| folder.join(pattern)).unwrap_or_default();
            // Without braces, as nginx asks glob(3).
            for path in files.matching(&pattern.display().to_string(), false) {
                expanded.extend(read(&path, files, &directive.origin, depth + 1, writer));
            }
            continue;
        }
        directive.block = directive.block.map(|block| expand(block, path, files, depth, writer));
        expanded.push(directive);
    }
    expanded
}

fn block(tokens: &mut Tokens<'_>, depth: usize, writer: &mut Writer) -> Vec<Directive> {
    let mut directives = Vec::new();
    let mut current: Option<Directive> = None;
    while let Some((origin, token)) = tokens.next() {
        match token {
            Token::Word(word) => {
                let directive =
                    current.get_or_insert_with(|| Directive { origin, words: Vec::new(), block: None });
                directive.words.push(word);
            }
            Token::End => directives.extend(current.take()),
            Token::Open if depth >= DEPTH_MAX => {
                writer.refuse(
                    &origin,
                    "file",
                    Fault::new("blocks too deep", "nginx has a few", "remove some"),
                );
                return directives;
            }
            Token::Open => {
                let inner = block(tokens, depth + 1, writer);
                directives
                    .extend(current.take().map(|directive| Directive { block: Some(inner), ..directive }));
            }
            Token::Close if depth > 0 => return directives,
            Token::Close => {
                writer.refuse(
                    &origin,
                    "file",
                    Fault::new("a } that ends no block", "every } has its {", "remove it"),
                );
            }
        }
    }
    if let Some(directive) = current {
        let fault = Fault::new("a directive is not ended", "a directive ends with ; or a block", "add ;");
        writer.refuse(&directive.origin, "file", fault);
    }
    directives
}

enum Token {
    Word(String),
    End,
    Open,
    Close,
}

struct Tokens<'t> {
    path: &'t Path,
    text: &'t str,
    at: usize,
    line: usize,
    column: usize,
}

impl Tokens<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        (self.line, self.column) = if c == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        Some(c)
    }

    fn next(&mut self) -> Option<(Origin, Token)> {
        loop {
            match self.peek()? {
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.take();
                    }
                }
                c if c.is_whitespace() => drop(self.take()),
                _ => break,
            }
        }
        let origin = Origin { file: self.path.into(), line: self.line, column: self.column };
        let token = match self.take()? {
            ';' => Token::End,
            '{' => Token::Open,
            '}' => Token::Close,
            quote @ ('"' | '\'') => Token::Word(self.quoted(quote)),
            first => {
                let mut word = String::from(first);
                // `${name}` is a part of a word.
                while let Some(c) = self.peek().filter(|c| !c.is_whitespace() && ![';', '}'].contains(c)) {
                    if c == '{' && !word.ends_with('$') {
                        break;
                    }
                    word.extend(self.take());
                    if c == '{' {
                        while let Some(c) = self.take() {
                            word.push(c);
                            if c == '}' {
                                break;
                            }
                        }
                    }
                }
                Token::Word(word)
            }
        };
        Some((origin, token))
    }

    fn quoted(&mut self, quote: char) -> String {
        let mut word = String::new();
        while let Some(c) = self.take().filter(|c| *c != quote) {
            match c {
                '\\' => word.extend(self.take().map(|c| match c {
                    'r' => '\r',
                    'n' => '\n',
                    't' => '\t',
                    c => c,
                })),
                c => word.push(c),
            }
        }
        word
    }
}
