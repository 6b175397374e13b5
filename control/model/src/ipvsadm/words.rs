//! How a command line falls into options and arguments: the rules of popt(3), which ipvsadm reads its command line by.
//!
//! Short options may share a word (`-Ln`), their value may follow in the same word (`-w3`, `-w=3`) or in the next one; long
//! ones stand alone, with their value behind `=` or in the next word. Words that are no option may stand anywhere.

/// Whether an option has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// It has none.
    None,
    /// It must have one.
    Required,
    /// The next word is its value unless that begins with `-`.
    Optional,
}

/// An option that a command line may hold.
#[derive(Clone, Copy, Debug)]
pub struct Spelling<T> {
    /// What it means.
    pub meaning: T,
    /// Its letter.
    pub short: Option<char>,
    /// Its long name, without the dashes.
    pub long: &'static str,
    /// Whether it has a value.
    pub value: Value,
}

/// An option that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// What it means.
    pub meaning: T,
    /// Its value.
    pub value: Option<String>,
    /// The word that it stands in, for messages.
    pub word: String,
}

/// Why a word cannot be read; [`std::fmt::Display`] is what popt calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadWord {
    word: String,
    wrong: &'static str,
}

impl std::fmt::Display for BadWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.word, self.wrong)
    }
}

/// A command line that is being read.
#[derive(Debug)]
pub struct Words<'a, T> {
    spellings: &'a [Spelling<T>],
    words: std::slice::Iter<'a, String>,
    /// What is left of a word of short options, and that word.
    letters: Option<(&'a str, &'a str)>,
    /// Words that are no option, in their order.
    arguments: Vec<String>,
}

impl<'a, T: Copy> Words<'a, T> {
    /// Begins to read `words`, the program's name not among them.
    #[must_use]
    pub fn new(words: &'a [String], spellings: &'a [Spelling<T>]) -> Self {
        Self { spellings, words: words.iter(), letters: None, arguments: Vec::new() }
    }

    /// The next option; none when there is no more.
    ///
    /// # Errors
    /// A word that cannot be read.
    pub fn next_option(&mut self) -> Result<Option<Found<T>>, BadWord> {
        loop {
            if let Some((letters, word)) = self.letters.take() {
                return self.letter(letters, word).map(Some);
            }
            let Some(word) = self.words.next() else { return Ok(None) };
            match word.strip_prefix('-') {
                None | Some("") => self.arguments.push(word.clone()),
                Some("-") => {
                    self.arguments.extend(self.words.by_ref().cloned());
                    return Ok(None);
                }
                Some(rest) => match rest.strip_prefix('-') {
                    Some(long) => return self.long(long, word).map(Some),
                    None => self.letters = Some((rest, word)),
                },
            }
        }
    }

    /// The words that were no option, once all options were read.
    #[must_use]
    pub fn into_arguments(self) -> Vec<String> {
        self.arguments
    }

    fn long(&mut self, text: &str, word: &str) -> Result<Found<T>, BadWord> {
        let bad = |wrong| BadWord { word: word.to_owned(), wrong };
        let (name, given) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let spelling = self.spellings.iter().find(|spelling| spelling.long == name);
        let spelling = *spelling.ok_or_else(|| bad("unknown option"))?;
        if spelling.value == Value::None && given.is_some() {
            return Err(bad("option does not take an argument"));
        }
        let value = self.value(spelling.value, given, word)?;
        Ok(Found { meaning: spelling.meaning, value, word: word.to_owned() })
    }

    fn letter(&mut self, letters: &'a str, word: &'a str) -> Result<Found<T>, BadWord> {
        let bad = |wrong| BadWord { word: word.to_owned(), wrong };
        let mut rest = letters.chars();
        let letter = rest.next().unwrap_or_default();
        let rest = rest.as_str();
        let spelling = self.spellings.iter().find(|spelling| spelling.short == Some(letter));
        let spelling = *spelling.ok_or_else(|| bad("unknown option"))?;
        let found = |value| Found { meaning: spelling.meaning, value, word: word.to_owned() };
        if spelling.value == Value::None {
            if rest.starts_with('=') {
                return Err(bad("option does not take an argument"));
            }
            if !rest.is_empty() {
                self.letters = Some((rest, word));
            }
            return Ok(found(None));
        }
        let given = (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest));
        Ok(found(self.value(spelling.value, given, word)?))
    }

    /// The value of an option: what stands with it, or the next word.
    fn value(&mut self, kind: Value, given: Option<&str>, word: &str) -> Result<Option<String>, BadWord> {
        if let Some(given) = given {
            return Ok(Some(given.to_owned()));
        }
        match kind {
            Value::None => Ok(None),
            Value::Required => {
                let next = self.words.next().cloned();
                next.map(Some).ok_or_else(|| BadWord { word: word.to_owned(), wrong: "missing argument" })
            }
            Value::Optional => {
                let is_option = |next: &String| next.starts_with('-');
                match self.words.as_slice().first() {
                    Some(next) if !is_option(next) => Ok(self.words.next().cloned()),
                    _ => Ok(None),
                }
            }
        }
    }
}
