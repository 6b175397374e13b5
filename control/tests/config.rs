//! Configuration files: each wrong one with its exact problems, each good one accepted, any text without a panic.
//!
//! `tests/config/wrong/NAME.toml` has its problems in `NAME.expected`; `SHUNT_BLESS=1` writes those files anew.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use shunt_config::Config;
use shunt_config::check::Machine;
use shunt_config::diff::diff;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn machine() -> Machine {
    Machine { cores: Some(vec![0, 1, 2, 3]), ..Machine::default() }
}

#[test]
fn every_wrong_file_gets_its_message() {
    let bless = std::env::var_os("SHUNT_BLESS").is_some();
    let files = files("wrong");
    assert!(files.len() >= 60, "only {} wrong files", files.len());
    let mut different = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let found = match Config::check_on(&name(&path), &text, &machine()) {
            Ok(checked) => format!("usable\n{}\n", checked.warnings),
            Err(problems) => format!("{problems}\n"),
        };
        let expected = path.with_extension("expected");
        if bless {
            std::fs::write(&expected, &found).unwrap();
        }
        let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
        if found != wanted {
            different.push(format!("{}:\n--- wanted\n{wanted}--- found\n{found}", name(&path)));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn every_message_has_all_its_parts() {
    for path in files("wrong") {
        let text = std::fs::read_to_string(&path).unwrap();
        let problems = match Config::check_on(&name(&path), &text, &machine()) {
            Ok(checked) => checked.warnings,
            Err(problems) => problems,
        };
        assert!(!problems.list.is_empty(), "{}", name(&path));
        for problem in &problems.list {
            for part in [&problem.place, &problem.wrong, &problem.holds, &problem.advice] {
                assert!(!part.is_empty() && !part.contains('\n'), "{}: {problem:?}", name(&path));
            }
        }
    }
}

#[test]
fn every_good_file_is_accepted_without_a_warning() {
    for path in files("good") {
        let text = std::fs::read_to_string(&path).unwrap();
        let checked = Config::check_on(&name(&path), &text, &machine()).unwrap();
        assert_eq!(checked.warnings.to_string(), "", "{}", name(&path));
        assert!(diff(&checked.config, &checked.config).is_empty());
    }
}

/// Checks a text and asks everything of the answer.
fn digest(text: &str) {
    match Config::check_on("any", text, &machine()) {
        Ok(checked) => {
            assert_eq!(checked.warnings.errors(), 0);
            let _ = shunt::publish::compile::compile(&checked.config, &Default::default());
        }
        Err(problems) => {
            assert!(problems.errors() > 0, "refused without a reason: {text}");
            let _ = problems.with_excerpts();
        }
    }
}

fn all_texts() -> Vec<String> {
    files("wrong")
        .into_iter()
        .chain(files("good"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

proptest! {
    #[test]
    fn any_text_gets_an_answer(text in "\\PC*") {
        digest(&text);
    }

    #[test]
    fn any_toml_of_our_keys_gets_an_answer(
        lines in proptest::collection::vec(
            (
                prop_oneof![
                    Just("[runtime]"), Just("[[nic]]"), Just("[[route]]"), Just("[[service]]"), Just("[[service.real]]"),
                    Just("workers ="), Just("name ="), Just("device ="), Just("addresses ="), Just("gateway ="),
                    Just("to ="), Just("via ="), Just("nic ="), Just("listen ="), Just("protocol ="),
                    Just("real ="), Just("check ="), Just("address ="), Just("weight ="), Just("mtu ="),
                ],
                prop_oneof![
                    Just("\"192.0.2.10:80\""), Just("\"192.0.2.2/24\""), Just("\"front\""), Just("\"null:\""),
                    Just("[\"192.0.2.2/24\"]"), Just("\"192.0.2.1\""), Just("\"tcp\""), Just("1"), Just("[1]"),
                    Just("{ kind = \"tcp\" }"), Just("[{ address = \"192.0.2.21\" }]"), Just("[]"), Just("{}"),
                    Just("-1"), Just("1.5"), Just("\"fe80::1\""), Just("\"::/0\""), Just("nonsense"), Just("'é\u{7f}"),
                ],
            ),
            0..24,
        )
    ) {
        let line = |(key, value): &(&str, &str)| {
            if key.starts_with('[') { (*key).to_owned() } else { format!("{key} {value}") }
        };
        digest(&lines.iter().map(line).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn a_damaged_file_gets_an_answer(
        which in 0_usize..1000,
        at in 0_usize..4000,
        length in 0_usize..20,
        insert in "[\\PC\"\\[\\]{}=,.\n]{0,6}",
    ) {
        let texts = all_texts();
        let text = &texts[which % texts.len()];
        let mut characters: Vec<char> = text.chars().collect();
        let at = at % (characters.len() + 1);
        let end = (at + length).min(characters.len());
        characters.splice(at..end, insert.chars());
        digest(&characters.into_iter().collect::<String>());
    }
}
