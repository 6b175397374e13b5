//! One line of keepalived.conf in words: comments, quotation marks, escapes and braces.

/// A word of a line, or a brace that stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A word without its quotation marks.
    Word(Word),
    /// `{` outside of quotation marks.
    Open,
    /// `}` outside of quotation marks.
    Close,
}

/// A word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What it says.
    pub text: String,
    /// The byte of the line where it begins.
    pub at: usize,
}

/// The line without its comment: `#` and `!` begin one anywhere but in quotation marks.
#[must_use]
pub fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote.is_some() => escaped = true,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            c if quote == Some(c) => quote = None,
            '#' | '!' if quote.is_none() => return &line[..at],
            _ => {}
        }
    }
    line
}

/// The words of a line without a comment.
///
/// # Errors
/// The quotation mark that is not closed.
pub fn tokens(line: &str) -> Result<Vec<Token>, char> {
    let mut tokens = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    let mut characters = line.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let begun = || Word { text: String::new(), at };
        match c {
            '"' | '\'' if quote.is_none() => {
                word.get_or_insert_with(begun);
                quote = Some(c);
            }
            c if quote == Some(c) => quote = None,
            '\\' if quote.is_some() => {
                let text = &mut word.get_or_insert_with(begun).text;
                escape(&mut characters, text);
            }
            '{' | '}' if quote.is_none() => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(if c == '{' { Token::Open } else { Token::Close });
            }
            c if c.is_whitespace() && quote.is_none() => tokens.extend(word.take().map(Token::Word)),
            c => word.get_or_insert_with(begun).text.push(c),
        }
    }
    tokens.extend(word.take().map(Token::Word));
    quote.map_or(Ok(tokens), Err)
}

/// What follows a backslash in quotation marks, as in the shell's `$'…'`.
fn escape(characters: &mut std::iter::Peekable<std::str::CharIndices<'_>>, text: &mut String) {
    let Some((_, c)) = characters.next() else { return };
    let mut number = |mut value: u32, radix: u32, most: usize| {
        for _ in 0..most {
            let Some(digit) = characters.peek().and_then(|(_, c)| c.to_digit(radix)) else { break };
            value = value * radix + digit;
            characters.next();
        }
        char::from(value as u8)
    };
    text.push(match c {
        'a' => '\x07',
        'b' => '\x08',
        'E' => '\x1b',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'x' => number(0, 16, 2),
        '0'..='7' => number(u32::from(c) - u32::from('0'), 8, 2),
        c => c,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let text = |token: Token| match token {
            Token::Word(word) => word.text,
            Token::Open => "{".to_owned(),
            Token::Close => "}".to_owned(),
        };
        tokens(line).unwrap().into_iter().map(text).collect()
    }

    #[test]
    fn lines_in_words() {
        for (line, wanted) in [
            ("virtual_server 192.0.2.10 80 {", vec!["virtual_server", "192.0.2.10", "80", "{"]),
            ("real_server 192.0.2.21 80{", vec!["real_server", "192.0.2.21", "80", "{"]),
            ("auth_type PASS }", vec!["auth_type", "PASS", "}"]),
            (r#"abcd" efg h jkl "mnop"#, vec!["abcd efg h jkl mnop"]),
            (r#"abcd "efg h jkl" mnop"#, vec!["abcd", "efg h jkl", "mnop"]),
            (r#""a \"b\" c{" ''"#, vec!["a \"b\" c{", ""]),
            (r#""\x41\t\\\101""#, vec!["A\t\\A"]),
            ("", vec![]),
        ] {
            assert_eq!(words(line), wanted, "{line}");
        }
        assert_eq!(tokens("script \"/bin/x a"), Err('"'));
        assert!(matches!(&tokens("  weight 3").unwrap()[1], Token::Word(Word { at: 9, .. })));
    }

    #[test]
    fn comments_end_a_line() {
        for (line, rest) in [
            ("weight 1 # one", "weight 1 "),
            ("weight 1!one", "weight 1"),
            ("script \"a # b\" ! c", "script \"a # b\" "),
            ("# all", ""),
        ] {
            assert_eq!(without_comment(line), rest);
        }
    }
}
