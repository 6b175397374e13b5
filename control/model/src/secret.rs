//! What nobody reads but those whom it is for: passwords, what logs in, places that are secrets themselves.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// A secret: neither its text nor what `Debug` says of it tells it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Keeps a secret.
    pub const fn new(secret: T) -> Self {
        Self(secret)
    }

    /// For those whom it is for.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl From<&str> for Secret<String> {
    fn from(secret: &str) -> Self {
        Self(secret.to_owned())
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Words that name a secret, in any part of a name.
const TELLING: &str =
    "[a-z0-9_-]*(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|auth[_-]?(?:key|pass))[a-z0-9_-]*";

/// What is a secret in any text: each expression has it in its first group.
static IN_TEXT: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    expressions(&[
        // A user and a password in a URL (RFC 3986, 3.2.1).
        r#"(?i)[a-z][a-z0-9+.-]*://([^/\s"'@]+)@"#.to_owned(),
        // A value in a query.
        format!(r#"(?i)[?&;](?:{TELLING}|auth|key|sig(?:nature)?)=([^&\s"'#]+)"#),
        // An option, or a variable, with its value.
        format!(r#"(?i)--?{TELLING}(?:=|["',\s]+)([^\s"',]+)"#),
        format!(r#"(?i)\b{TELLING}[=:]["']?([^\s"',;&]+)"#),
        // What curl and wget take for user and password.
        r#"(?:^|[\s"'])(?:-u|--user)(?:=|["',\s]+)([^\s"',:]+:[^\s"',]+)"#.to_owned(),
        // Headers that log in.
        r#"(?i)(?:authorization|cookie|x-[a-z-]*(?:key|token))\s*:\s*([^"'\r\n\\]+)"#.to_owned(),
    ])
});

/// What is a secret in a configuration beside that: the whole values of some keys, and what follows the host in where a webhook is.
static IN_FILE: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let value = r#"(?:"""((?:\\.|[^\\])*?)"""|'''([\s\S]*?)'''|"((?:\\.|[^"\\\n])*)|'([^'\n]*))"#;
    expressions(&[
        format!(r#"(?ms)(?:^|[\s{{,."])(?:secret|send)"?\s*=\s*{value}"#),
        r#"(?m)(?:^|[\s{,."])url"?\s*=\s*["'][a-z]+://[^/"'\s]*/([^"'\s]+)"#.to_owned(),
        // keepalived's.
        r#"(?m)\bauth_pass\s+"?([^\s"]+)"#.to_owned(),
        // Its `auth_hmac`; a file is none.
        r#"(?m)\bkey\s+[0-9]+\s+(?:"([^"\n]+)|(hex:[^\s"]+|[^\s":]{32,}))"#.to_owned(),
    ])
});

fn expressions(list: &[String]) -> Vec<Regex> {
    // All of them are constants, which a test compiles.
    list.iter().filter_map(|text| Regex::new(text).ok()).collect()
}

fn found<'t>(text: &'t str, expressions: &'t [Regex]) -> impl Iterator<Item = Range<usize>> + 't {
    expressions.iter().flat_map(move |expression| {
        expression.captures_iter(text).filter_map(|captures| {
            captures.iter().skip(1).flatten().map(|group| group.range()).find(|range| !range.is_empty())
        })
    })
}

/// A text that a person or a program wrote, with what looks like a secret masked.
#[must_use]
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut ranges: Vec<_> = found(text, &IN_TEXT).collect();
    if ranges.is_empty() {
        return Cow::Borrowed(text);
    }
    ranges.sort_by_key(|range| range.start);
    let (mut out, mut at) = (String::new(), 0);
    for range in ranges {
        // One within another is masked with it.
        if range.start >= at {
            out.push_str(&text[at..range.start]);
            out.push_str(MASK);
        }
        at = at.max(range.end);
    }
    out.push_str(&text[at..]);
    Cow::Owned(out)
}

/// The text of a configuration with stars in the place of secrets, byte for byte.
#[must_use]
pub fn starred(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for range in found(text, &IN_TEXT).chain(found(text, &IN_FILE)) {
        for byte in bytes.get_mut(range).into_iter().flatten().filter(|byte| !byte.is_ascii_control()) {
            *byte = b'*';
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// True when a configuration has a secret that is certainly one: what is only sent to a server may be known to everybody.
#[must_use]
pub fn has_secrets(text: &str) -> bool {
    static CERTAIN: LazyLock<Vec<Regex>> = LazyLock::new(|| {
        expressions(&[
            r#"(?m)^[^#\n]*(?:^|[\s{,."])secret"?\s*=\s*["'](.)"#.to_owned(),
            r#"(?m)^[^#\n]*\bauth_pass\s+(\S)"#.to_owned(),
            r#"(?m)^[^#\n]*\bkey\s+[0-9]+\s+"?(hex:\S)"#.to_owned(),
            r#"(?im)^[^#\n]*(?:^|[\s{,."])send"?\s*=\s*["']+[^"'\n]*?((?:login|auth|pass|user) )"#.to_owned(),
        ])
    });
    let without_comments = || text.lines().filter(|line| !line.trim_start().starts_with(['#', '!']));
    found(text, &CERTAIN).next().is_some()
        || without_comments().any(|line| found(line, &IN_TEXT).next().is_some())
}

/// A text in which a server may have repeated what was sent to it.
#[must_use]
pub fn without_sent(text: &str, sent: &str) -> String {
    /// Shorter words say nothing.
    const WORD_MIN: usize = 4;
    let mut text = text.to_owned();
    let lines = sent.lines().map(str::trim).filter(|line| line.len() >= WORD_MIN);
    let words = sent.split_whitespace().skip(1).filter(|word| word.len() >= WORD_MIN);
    for part in lines.chain(words) {
        text = text.replace(part, MASK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_told_to_nobody_who_does_not_ask() {
        let secret = Secret::new("hunter2");
        assert_eq!(
            (format!("{secret:?}"), format!("{secret}"), *secret.expose()),
            (MASK.into(), MASK.into(), "hunter2")
        );
    }

    #[test]
    fn what_looks_like_a_secret_is_masked() {
        assert_eq!((IN_TEXT.len(), IN_FILE.len()), (6, 4), "all of them compile");
        for (text, wanted) in [
            ("https://bob:hunter2@host/x?a=1&token=t0&b=2", "https://***@host/x?a=1&token=***&b=2"),
            ("/bin/check --password hunter2 -v", "/bin/check --password *** -v"),
            ("/bin/check --db-password=hunter2 -v", "/bin/check --db-password=*** -v"),
            ("MYSQL_PWD=hunter2 mysqladmin ping", "MYSQL_PWD=*** mysqladmin ping"),
            ("curl -u bob:hunter2 http://x/", "curl -u *** http://x/"),
            ("curl -H 'Authorization: Bearer abc' http://x/", "curl -H 'Authorization: ***' http://x/"),
            ("/health?verbose=1", "/health?verbose=1"),
            ("/usr/bin/check -H 10.0.0.1 --timeout 5", "/usr/bin/check -H 10.0.0.1 --timeout 5"),
            ("user bob is missing", "user bob is missing"),
        ] {
            assert_eq!(masked(text), wanted);
        }
    }

    #[test]
    fn values_of_a_file_become_stars_of_the_same_length() {
        for (line, secret) in [
            ("check = { kind = \"send\", send = \"LOGIN bob hunter2\\r\\n\", expect = \"OK\" }", "hunter2"),
            ("auth = { kind = \"password\", secret = 'hunter2' }", "hunter2"),
            ("secret = \"hunter2", "hunter2"),
            ("send = '''\nLOGIN hunter2\n'''", "hunter2"),
            ("webhook = { url = \"https://hooks.example.org/services/T0/hunter2\" }", "hunter2"),
            ("command = [\"/bin/x\", \"--token\", \"hunter2\"]", "hunter2"),
            ("  auth_pass hunter2", "hunter2"),
            ("    key 1 hex:00hunter2", "hunter2"),
            ("    key 1 \"hunter2 and more words, 32 of them\"", "hunter2"),
        ] {
            let starred = starred(line);
            assert!(!starred.contains(secret) && starred.len() == line.len(), "{starred}");
            assert!(starred.starts_with(&line[..6]), "{starred}");
        }
        let plain =
            "name = \"web\"\ncheck = { kind = \"http\", path = \"/health?x=1\", expect = \"secret\" }\n";
        assert_eq!(starred(plain), plain);
    }

    #[test]
    fn secrets_that_are_certain() {
        for text in [
            "auth = { kind = \"password\", secret = \"x\" }",
            "auth_pass x",
            "  key 1 hex:00",
            "send = \"LOGIN bob x\"",
            "url = \"https://a:b@c/\"",
        ] {
            assert!(has_secrets(text), "{text}");
        }
        for text in [
            "send = \"PING\\r\\n\"",
            "# secret = \"x\"",
            "path = \"/login\"",
            "name = \"auth\"",
            "key 1 file:/x",
        ] {
            assert!(!has_secrets(text), "{text}");
        }
    }

    #[test]
    fn an_answer_that_repeats_what_was_sent_does_not_tell_it() {
        assert_eq!(
            without_sent("-ERR unknown: LOGIN bob hunter2", "LOGIN bob hunter2\r\n"),
            "-ERR unknown: ***"
        );
        assert_eq!(without_sent("wrong password hunter2", "AUTH hunter2"), "wrong password ***");
    }
}
