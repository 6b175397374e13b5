//! Shell scripts of guides, as far as they can be read without being run: variables, loops over lists, functions, the `start` of a `case`.
//! Commands are not run; who reads a script is given each with its words.

use std::collections::HashMap;
use std::path::Path;

use shunt_model::fault::Origin;

/// A command with its words, or why they are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub origin: Origin,
    /// Its words, or what cannot be resolved.
    pub words: Result<Vec<String>, String>,
    /// As it is written.
    pub written: String,
}

/// How many commands a script may have, its loops unrolled.
const COMMANDS_MAX: usize = 20_000;
/// How deep loops, branches and calls may stand in one another.
const DEPTH_MAX: usize = 16;

/// The commands of a script, in the order in which it would run them.
#[must_use]
pub fn commands(path: &Path, text: &str) -> Vec<Command> {
    let words = words(path, text);
    let mut shell = Shell::default();
    shell.run(&words, 0);
    shell.commands
}

/// A word as it is written, or the end of a command.
#[derive(Clone, Debug)]
enum Token {
    Word(Origin, String),
    End,
}

impl Token {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(_, written) if written == word)
    }
}

/// The words of a text; what is quoted stays as it is written.
fn words(path: &Path, text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut word = String::new();
    let (mut line, mut column) = (1, 0);
    let mut begin = (1, 1);
    let mut characters = text.chars().peekable();
    // Of a quotation or substitution, what ends it.
    let mut until: Vec<char> = Vec::new();
    let file: std::sync::Arc<Path> = path.into();
    let finish = |word: &mut String, begin: (usize, usize), tokens: &mut Vec<Token>| {
        if !word.is_empty() {
            let origin = Origin { file: file.clone(), line: begin.0, column: begin.1 };
            tokens.push(Token::Word(origin, std::mem::take(word)));
        }
    };
    while let Some(c) = characters.next() {
        (line, column) = if c == '\n' { (line + 1, 0) } else { (line, column + 1) };
        if word.is_empty() {
            begin = (line, column);
        }
        if c == '\\' {
            match characters.next() {
                Some('\n') => (line, column) = (line + 1, 0),
                Some(next) => word.extend([c, next]),
                None => {}
            }
            continue;
        }
        if let Some(end) = until.last() {
            word.push(c);
            if c == *end {
                until.pop();
            } else if *end != '\'' && c == '$' && characters.peek() == Some(&'(') {
                word.extend(characters.next());
                until.push(')');
            }
            continue;
        }
        match c {
            '#' if word.is_empty() => while characters.next_if(|c| *c != '\n').is_some() {},
            '\'' | '"' | '`' => {
                word.push(c);
                until.push(c);
            }
            '$' if matches!(characters.peek(), Some('(' | '{')) => {
                let open = characters.next();
                word.push(c);
                word.extend(open);
                until.push(if open == Some('(') { ')' } else { '}' });
            }
            ';' if characters.peek() == Some(&';') => {
                characters.next();
                finish(&mut word, begin, &mut tokens);
                word = ";;".to_owned();
                finish(&mut word, (line, column), &mut tokens);
            }
            '&' if word.ends_with('>') || characters.peek() == Some(&'>') => word.push(c),
            '\n' | ';' | '&' | '|' => {
                finish(&mut word, begin, &mut tokens);
                tokens.push(Token::End);
            }
            '(' | ')' => {
                finish(&mut word, begin, &mut tokens);
                word.push(c);
                finish(&mut word, (line, column), &mut tokens);
            }
            c if c.is_whitespace() => finish(&mut word, begin, &mut tokens),
            c => word.push(c),
        }
    }
    finish(&mut word, begin, &mut tokens);
    tokens.push(Token::End);
    tokens
}

#[derive(Default)]
struct Shell {
    variables: HashMap<String, String>,
    functions: HashMap<String, Vec<Token>>,
    commands: Vec<Command>,
}

impl Shell {
    fn run(&mut self, tokens: &[Token], depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        let mut at = 0;
        while at < tokens.len() && self.commands.len() < COMMANDS_MAX {
            let end = tokens[at..].iter().position(|token| matches!(token, Token::End));
            let end = end.map_or(tokens.len(), |end| at + end);
            let statement = &tokens[at..end];
            let Some(Token::Word(origin, first)) = statement.first() else {
                at = end + 1;
                continue;
            };
            at = match first.as_str() {
                "for" => self.for_loop(tokens, at, end, depth),
                "case" => self.case(tokens, at, depth),
                // The words of branches are none; what is in all of them runs.
                "if" | "elif" | "while" | "until" => end + 1,
                "then" | "else" | "do" | "{" | "}" | "fi" | "done" => at + 1,
                _ if statement.get(1).is_some_and(|token| token.is("(")) => self.function(tokens, at),
                _ => {
                    self.command(origin, statement, depth);
                    end + 1
                }
            };
        }
    }

    /// Where a block ends that begins there, behind its last word.
    fn end_of(tokens: &[Token], from: usize, open: &[&str], close: &str) -> usize {
        let mut depth = 0;
        for (at, token) in tokens.iter().enumerate().skip(from) {
            if open.iter().any(|word| token.is(word)) {
                depth += 1;
            } else if token.is(close) {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
        }
        tokens.len()
    }

    fn for_loop(&mut self, tokens: &[Token], at: usize, end: usize, depth: usize) -> usize {
        let last = Self::end_of(tokens, end, &["do"], "done");
        let body = &tokens[(end + 1).min(last)..last];
        let written: Vec<&String> = tokens[at + 1..end]
            .iter()
            .filter_map(|token| match token {
                Token::Word(_, word) => Some(word),
                Token::End => None,
            })
            .collect();
        if let [name, of, items @ ..] = &written[..] {
            if of.as_str() == "in" {
                let mut values: Vec<String> = Vec::new();
                for item in items {
                    // What is not known is told where it is used.
                    values.extend(self.expand(item).unwrap_or_else(|_| vec![(*item).clone()]));
                }
                for value in values {
                    self.variables.insert((*name).clone(), value);
                    self.run(body, depth + 1);
                }
            }
        }
        last + 1
    }

    /// Of a `case` what runs at the start of a service, or else all.
    fn case(&mut self, tokens: &[Token], at: usize, depth: usize) -> usize {
        let last = Self::end_of(tokens, at, &["case"], "esac");
        let begin =
            tokens[at..last].iter().position(|token| token.is("in")).map_or(last, |begin| at + begin + 1);
        let arms: Vec<&[Token]> = tokens[begin..last].split(|token| token.is(";;")).collect();
        let split = |arm: &'_ [Token]| arm.iter().position(|token| token.is(")"));
        let start = arms.iter().find(|arm| {
            split(arm).is_some_and(|close| {
                arm[..close].iter().any(|token| token.is("start") || token.is("\"start\""))
            })
        });
        if let Some(arm) = start {
            let arm = arm[split(arm).map_or(0, |close| close + 1)..].to_vec();
            self.run(&arm, depth + 1);
        }
        last + 1
    }

    fn function(&mut self, tokens: &[Token], at: usize) -> usize {
        let last = Self::end_of(tokens, at, &["{"], "}");
        if let Token::Word(_, name) = &tokens[at] {
            let open = tokens[at..last].iter().position(|token| token.is("{"));
            let body = open.map(|open| tokens[at + open + 1..last].to_vec()).unwrap_or_default();
            self.functions.insert(name.clone(), body);
        }
        last + 1
    }

    fn command(&mut self, origin: &Origin, statement: &[Token], depth: usize) {
        let written: Vec<&str> = statement
            .iter()
            .filter_map(|token| match token {
                Token::Word(_, word) => Some(word.as_str()),
                Token::End => None,
            })
            .collect();
        let declares = ["export", "local", "readonly", "declare"].contains(&written[0]);
        let assigned = written.iter().skip(usize::from(declares));
        let assigned = assigned.filter_map(|word| word.split_once('='));
        let assigned: Vec<(&str, &str)> = assigned.filter(|(name, _)| is_name(name)).collect();
        if assigned.len() + usize::from(declares) == written.len() {
            for (name, value) in assigned {
                match self.expand(value) {
                    Ok(value) => self.variables.insert(name.to_owned(), value.join(" ")),
                    Err(_) => self.variables.remove(name),
                };
            }
            return;
        }
        if let Some(body) = self.functions.get(written[0]).cloned() {
            for (number, word) in written.iter().enumerate().skip(1) {
                if let Ok(value) = self.expand(word) {
                    self.variables.insert(number.to_string(), value.join(" "));
                }
            }
            return self.run(&body, depth + 1);
        }
        let words: Result<Vec<Vec<String>>, String> = written.iter().map(|word| self.expand(word)).collect();
        self.commands.push(Command {
            origin: origin.clone(),
            words: words.map(|words| words.concat()),
            written: written.join(" "),
        });
    }

    /// The words that a word stands for.
    ///
    /// # Errors
    /// What in it is not known.
    fn expand(&self, word: &str) -> Result<Vec<String>, String> {
        let mut words = vec![String::new()];
        let mut is_quoted = false;
        let mut quote = None;
        let mut characters = word.chars().peekable();
        while let Some(c) = characters.next() {
            let Some(last) = words.last_mut() else { break };
            match c {
                '\'' | '"' if quote.is_none() => (quote, is_quoted) = (Some(c), true),
                _ if quote == Some(c) => quote = None,
                '\\' if quote != Some('\'') => last.extend(characters.next()),
                '`' if quote != Some('\'') => return Err("what another command prints".to_owned()),
                '$' if quote != Some('\'') => {
                    let value = self.value(&mut characters)?;
                    if quote.is_some() {
                        last.push_str(&value);
                        continue;
                    }
                    // Unquoted, its blanks part words.
                    let mut parts = value.split_whitespace();
                    last.push_str(parts.next().unwrap_or_default());
                    words.extend(parts.map(str::to_owned));
                }
                c => last.push(c),
            }
        }
        words.retain(|word| is_quoted || !word.is_empty());
        Ok(words)
    }

    /// The value of a variable, of which the `$` was read.
    fn value(&self, characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, String> {
        let mut name = String::new();
        let mut default = None;
        match characters.peek() {
            Some('{') => {
                characters.next();
                let inner: String = characters.by_ref().take_while(|c| *c != '}').collect();
                let end = inner.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(inner.len());
                name.push_str(&inner[..end]);
                default = inner[end..]
                    .strip_prefix(":-")
                    .or_else(|| inner[end..].strip_prefix('-'))
                    .map(str::to_owned);
                if default.is_none() && end < inner.len() {
                    return Err(format!("${{{inner}}}"));
                }
            }
            Some('(') => return Err("what another command prints".to_owned()),
            _ => {
                while let Some(c) = characters.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                    // $1x is $1 and x.
                    if name.len() == 1 && c.is_ascii_digit() {
                        break;
                    }
                }
            }
        }
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        self.variables.get(&name).cloned().or(default).ok_or_else(|| format!("${name}"))
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Vec<String> {
        let commands = commands(Path::new("any"), text);
        commands
            .into_iter()
            .map(|command| command.words.map_or_else(|what| format!("? {what}"), |words| words.join("|")))
            .collect()
    }

    #[test]
    fn variables_loops_and_functions_are_resolved() {
        assert_eq!(
            run("A=1; B=\"two words\"\nx $A ${A}b \"$B\" $B '$B' \\$B # c"),
            ["x|1|1b|two words|two|words|$B|$B"]
        );
        assert_eq!(
            run("for i in 1 2\ndo\n  for j in a b; do x $i$j; done\ndone"),
            ["x|1a", "x|1b", "x|2a", "x|2b"]
        );
        assert_eq!(run("R=\"a b\"\nfor i in $R; do x \\\n  $i; done"), ["x|a", "x|b"]);
        assert_eq!(
            run("go() {\n  x $1\n}\ncase \"$1\" in\n  start)\n  go now\n  ;;\n  stop) y ;;\nesac"),
            ["x|now"]
        );
        assert_eq!(run("if [ -x /sbin/x ]; then\n  x 1\nelse\n  x 2\nfi"), ["x|1", "x|2"]);
        assert_eq!(
            run("x $NOBODY; y `date`; z $(date) ; A=$(date); w $A ${B:-c} ${C%.*}"),
            ["? $NOBODY", "? what another command prints", "? what another command prints", "? $A"]
        );
        assert_eq!(run("x ${B:-c}; export D=e; x $D"), ["x|c", "x|e"]);
    }
}
