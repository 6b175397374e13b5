//! libFuzzer around one of the targets, which the variable `FUZZ_TARGET` names.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use shunt_tests::fuzz::{self, Target};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn chosen() -> &'static Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    fuzz::target(&name).unwrap_or_else(|| {
        let names: Vec<&str> = fuzz::TARGETS.iter().map(|target| target.name).collect();
        panic!("FUZZ_TARGET: no such target ({name:?}): targets are {}: name one", names.join(", "))
    })
}

fuzz_target!(|input: &[u8]| (TARGET.get_or_init(chosen).run)(input));
