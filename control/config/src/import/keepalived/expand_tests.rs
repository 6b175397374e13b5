use std::collections::BTreeMap;
use std::io;

use super::*;
use crate::import::writer::Imported;

/// Files of a test.
struct Given(BTreeMap<PathBuf, String>);

impl Files for Given {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn is_program(&self, _: &Path) -> bool {
        true
    }

    fn matching(&self, pattern: &str, _: bool) -> Vec<PathBuf> {
        let pattern = glob::Pattern::new(pattern).unwrap();
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::default() };
        self.0.keys().filter(|path| pattern.matches_path_with(path, options)).cloned().collect()
    }
}

fn read(files: &[(&str, &str)], config_id: &str) -> (Vec<String>, Imported) {
    let given = Given(files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect());
    let mut writer = Writer::default();
    let lines = Expansion::new(&given, config_id).read(Path::new(files[0].0), &mut writer);
    (lines.into_iter().map(|line| line.text).collect(), writer.finish())
}

fn lines(text: &str) -> Vec<String> {
    let (lines, imported) = read(&[("/a", text)], "main");
    assert_eq!(imported.notes, []);
    lines
}

#[test]
fn definitions_are_put_in_when_they_are_used() {
    let text = "$BASE=10.2.${SUB}\n$SUB=0\n${BASE}.100/32\n$SUB=10\n${BASE}.100/32\nkeep $UNKNOWN ${OTHER}\na$SUB b\n$SUBx c";
    assert_eq!(
        lines(text),
        ["10.2.0.100/32", "10.2.10.100/32", "keep $UNKNOWN ${OTHER}", "a10 b", "$SUBx c"]
    );
    // What they stand for begins a comment, too, but in quotation marks.
    assert_eq!(lines("\"x ${_HASH}${_BANG}\" ${_INSTANCE} ${_PWD}\nx ${_HASH} y"), ["\"x #!\" main /", "x"]);
}

#[test]
fn definitions_of_several_lines_hold_others() {
    let text = "$RS= \\\nreal_server 10.0.0.${N} 80 { \\\n weight 1 \\\n}\n$VS= \\\nvirtual_server 10.0.1.${V} 80 { \\\n \
                $N=1 \\\n $RS \\\n $N=2 \\\n $RS \\\n}\n$V=7\n$VS\n";
    assert_eq!(
        lines(text),
        [
            "virtual_server 10.0.1.7 80 {",
            "real_server 10.0.0.1 80 {",
            "weight 1",
            "}",
            "real_server 10.0.0.2 80 {",
            "weight 1",
            "}",
            "}"
        ]
    );
}

#[test]
fn conditions_choose_lines() {
    let text = "@main a\n@backup b\n@^main c\n@^backup d\n@main $P=1\n@backup $P=2\ne $P\n$IF=@main\n$IF f";
    assert_eq!(lines(text), ["a", "d", "e 1", "f"]);
}

#[test]
fn sequences_and_lists_repeat_a_line() {
    assert_eq!(lines("~SEQ(X, 0, 3) a${X}"), ["a0", "a1", "a2", "a3"]);
    assert_eq!(lines("~SEQ(X, 2) a${X}"), ["a1", "a2"]);
    assert_eq!(lines("~SEQx(X, 0x90, 0x10, 0xb0) a${X}"), ["a90", "aa0", "ab0"]);
    assert_eq!(lines("~SEQ(X, 3, -2, 0) a${X}"), ["a3", "a1"]);
    assert_eq!(
        lines("~LST({A, B}, {1,2}, {3,4}) ~SEQ(C,2) ${A}.${B}.${C}"),
        ["1.2.1", "1.2.2", "3.4.1", "3.4.2"]
    );
    for wrong in
        ["~SEQ(X) a", "~SEQ(X,1,0,2) a", "~SEQ(X,1,99999999) a", "~LST(A) a", "~LST({A,B},1) a", "~SEQ(X,1"]
    {
        let (lines, imported) = read(&[("/a", wrong)], "main");
        assert!(lines.is_empty() && imported.notes.len() == 1, "{wrong}");
    }
}

#[test]
fn files_are_included_by_pattern_and_relative_to_the_including_one() {
    let files = [
        ("/etc/k.conf", "include d/*.conf\ninclude {x,y}.conf\nend"),
        ("/etc/d/1.conf", "one\ninclude sub/2.conf"),
        ("/etc/d/sub/2.conf", "two ${_PWD}"),
        ("/etc/y.conf", "why"),
    ];
    let (lines, imported) = read(&files, "main");
    assert_eq!(lines, ["one", "two /etc/d/sub", "why", "end"]);
    assert_eq!(
        imported.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "/etc/k.conf:2:1: warning: file: no file is /etc/x.conf: keepalived goes on without it: correct the name, or remove the line"
        ]
    );
    let (_, imported) = read(&[("/etc/k.conf", "includea none*.conf")], "main");
    assert!(!imported.is_usable());
}

/// keepalived#1446: definitions, conditions and sequences hold in include lines.
/// What the name of a folder has in it is no pattern, and is told as it is.
#[test]
fn a_folder_may_have_any_name() {
    let (lines, imported) = read(&[("/etc/keep-alived[1]/k.conf", "include x.conf\nend")], "main");
    assert_eq!(lines, ["end"]);
    let notes: Vec<&str> = imported.notes.iter().map(|note| note.fault.wrong.as_str()).collect();
    assert_eq!(notes, ["no file is /etc/keep-alived[1]/x.conf"]);
}

#[test]
fn include_lines_are_lines_as_others() {
    let files = [
        (
            "/etc/k.conf",
            "$DIR=/etc/d\ninclude ${DIR}/1.conf\ninclude ${_PWD}/d/2.conf\n@^other include d/3.conf\n@other include d/1.conf\n\
             ~SEQ(N, 1, 2) include d/${N}.conf\ninclude \"d/1.conf\"\ninclude \ninclude_check x\ninclude none/*.conf",
        ),
        ("/etc/d/1.conf", "one"),
        ("/etc/d/2.conf", "two"),
        ("/etc/d/3.conf", "three"),
    ];
    let (lines, imported) = read(&files, "main");
    assert_eq!(lines, ["one", "two", "three", "one", "two", "include_check x"]);
    let notes: Vec<&str> = imported.notes.iter().map(|note| note.fault.wrong.as_str()).collect();
    assert_eq!(
        notes,
        ["no file is /etc/\"d/1.conf\"", "include names no file", "no file is /etc/none/*.conf"]
    );
}

/// What follows a NUL in its line is lost, and blanks are those of C.
#[test]
fn bytes_that_are_no_text() {
    assert_eq!(lines("a\0b\n\0\0\nc\r\n\u{feff}d\n e\u{a0}f \r"), ["a", "c", "\u{feff}d", "e\u{a0}f"]);
}

#[test]
fn definitions_end_where_keepalived_ends_them() {
    assert_eq!(lines("$A=1\n$A,$A $A)$A- ${A}x\n~SEQ(X, $A, 2) ${X}"), ["1,1 1)$A- 1x", "1", "2"]);
}

#[test]
fn too_many_virtual_routers_are_found_early() {
    let text = "$VI= \\\nvrrp_instance v${A}.${B}.${C} { \\\n}\n~SEQ(A,0,7) ~SEQ(B,0,31) ~SEQ(C,1,254) $VI";
    let (lines, imported) = read(&[("/a", text)], "main");
    assert!(lines.len() < 3 * VRRP_MAX, "{}", lines.len());
    assert_eq!(imported.notes.len(), 1);
}

#[test]
fn what_never_ends_is_refused() {
    for text in ["$A=${A}\nx ${A}", "$A=$A $A\nx $A", "include /a"] {
        let (_, imported) = read(&[("/a", text)], "main");
        assert_eq!(imported.notes.len(), 1, "{text}: {:?}", imported.notes);
    }
    let (lines, imported) = read(&[("/a", "~SEQ(A,9999) ~SEQ(B,9999) x")], "main");
    assert!(lines.len() <= LINES_MAX && !imported.is_usable());
}
