//! One line of keepalived.conf in words: comments, quotation marks, escapes and braces.
//!
//! keepalived parts lines at blanks and at `"`, and knows `'` and escapes only where it reads a script or a regular
//! expression; it reads bytes, so that a no-break space is a letter like others.

use std::borrow::Cow;

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

/// What parts words: the blanks of C.
#[must_use]
pub const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// The line without its comment: `#` and `!` begin one but in quotation marks and behind a backslash. A backslash at
/// the end stays there, whatever stands before it.
#[must_use]
pub fn without_comment(line: &str) -> Cow<'_, str> {
    let bytes = line.as_bytes();
    let (mut quoted, mut comment, mut goes_on) = (false, None, false);
    let mut dropped = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' if comment.is_none() => quoted = !quoted,
            b'\\' => match bytes.get(at + 1) {
                None => goes_on = true,
                Some(b'#' | b'!') if !quoted => {
                    dropped.push(at);
                    at += 1;
                }
                Some(_) => at += 1,
            },
            b'#' | b'!' if !quoted && comment.is_none() => comment = Some(at),
            _ => {}
        }
        at += 1;
    }
    let end = comment.unwrap_or(line.len() - usize::from(goes_on));
    if comment.is_none() && dropped.is_empty() {
        return Cow::Borrowed(line);
    }
    let kept = line[..end].char_indices().filter(|(at, _)| !dropped.contains(at));
    let mut text: String = kept.map(|(_, c)| c).collect();
    text.truncate(text.trim_end_matches([' ', '\t']).len());
    if goes_on {
        text.push('\\');
    }
    Cow::Owned(text)
}

/// The words of a line without a comment, and whether a quotation mark of it is not closed: what follows that is lost.
#[must_use]
pub fn tokens(line: &str) -> (Vec<Token>, bool) {
    let mut tokens = Vec::new();
    let mut word: Option<Word> = None;
    let mut at = 0;
    while let Some(c) = line[at..].chars().next() {
        match c {
            '"' => {
                tokens.extend(word.take().map(Token::Word));
                let Some(length) = line[at + 1..].find('"') else { return (tokens, true) };
                let text = line[at + 1..at + 1 + length].to_owned();
                tokens.push(Token::Word(Word { text, at }));
                at += length + 1;
            }
            '{' | '}' => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(if c == '{' { Token::Open } else { Token::Close });
            }
            c if is_blank(c) => tokens.extend(word.take().map(Token::Word)),
            c => word.get_or_insert_with(|| Word { text: String::new(), at }).text.push(c),
        }
        at += c.len_utf8();
    }
    tokens.extend(word.take().map(Token::Word));
    (tokens, false)
}

/// The words of a line as keepalived reads scripts and regular expressions: with `'`, and with escapes.
///
/// # Errors
/// The quotation mark that is not closed.
pub fn quoted_words(line: &str) -> Result<Vec<String>, char> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' => escape(&mut characters, word.get_or_insert_default()),
            c if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            c if is_blank(c) && quote.is_none() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.map_or(Ok(words), Err)
}

/// What follows a backslash, as in the shell's `$'…'`.
fn escape(characters: &mut std::iter::Peekable<std::str::Chars<'_>>, text: &mut String) {
    let Some(c) = characters.next() else { return };
    let mut number = |mut value: u32, radix: u32, most: usize| {
        for _ in 0..most {
            let Some(digit) = characters.peek().and_then(|c| c.to_digit(radix)) else { break };
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
        let (tokens, open) = tokens(line);
        assert!(!open, "{line}");
        tokens.into_iter().map(text).collect()
    }

    #[test]
    fn lines_in_words() {
        for (line, wanted) in [
            ("virtual_server 192.0.2.10 80 {", vec!["virtual_server", "192.0.2.10", "80", "{"]),
            ("real_server 192.0.2.21 80{", vec!["real_server", "192.0.2.21", "80", "{"]),
            ("auth_type PASS }", vec!["auth_type", "PASS", "}"]),
            // Only `"` holds words together, and each of its pairs is a word.
            (r#"abcd" efg h jkl "mnop"#, vec!["abcd", " efg h jkl ", "mnop"]),
            (r#"abcd "efg h jkl" mnop"#, vec!["abcd", "efg h jkl", "mnop"]),
            (r#""a {" '' 'b c'"#, vec!["a {", "''", "'b", "c'"]),
            ("weight\u{a0}1", vec!["weight\u{a0}1"]),
            ("a\rb\x0bc", vec!["a", "b", "c"]),
            ("", vec![]),
        ] {
            assert_eq!(words(line), wanted, "{line}");
        }
        let (tokens, open) = tokens("script \"/bin/x a");
        assert_eq!((tokens.len(), open), (1, true));
        assert!(matches!(&super::tokens("  weight 3").0[1], Token::Word(Word { at: 9, .. })));
    }

    #[test]
    fn words_of_scripts() {
        for (line, wanted) in [
            (r#"script "/bin/x a" nobody"#, vec!["script", "/bin/x a", "nobody"]),
            (r"script '/bin/x a b'", vec!["script", "/bin/x a b"]),
            (r#"a"b c"d 'e\'f'"#, vec!["ab cd", "e'f"]),
            (r#""\x41\t\\\101" ''"#, vec!["A\t\\A", ""]),
            (r"a\ b", vec!["a b"]),
        ] {
            assert_eq!(quoted_words(line).unwrap(), wanted, "{line}");
        }
        assert_eq!(quoted_words("script \"/bin/x a"), Err('"'));
    }

    #[test]
    fn comments_end_a_line() {
        for (line, rest) in [
            ("weight 1 # one", "weight 1"),
            ("weight 1!one", "weight 1"),
            ("script \"a # b\" ! c", "script \"a # b\""),
            ("auth_pass a\\#b # c", "auth_pass a#b"),
            // Comments begin within ', too.
            ("script 'a # b'", "script 'a"),
            ("$A=x # more \\", "$A=x\\"),
            ("$A=x \\", "$A=x \\"),
            ("# all", ""),
        ] {
            assert_eq!(without_comment(line), rest, "{line}");
        }
    }
}
