//! keepalived.conf, as keepalived 2.2.7 reads it.
//!
//! Files → lines ([`expand`]) → statements ([`tree`]) → TOML, keyword by keyword; [`keywords`] says what becomes of each.

mod checks;
pub mod expand;
mod global;
mod groups;
pub mod keywords;
mod scripts;
mod services;
mod tracking;
pub mod tree;
mod values;
mod vrrp;
pub mod words;

pub(in crate::import) use services::netmask;

use std::path::Path;

use self::expand::Expansion;
use self::keywords::Block;
use self::services::Context;
use self::tree::Statement;
use self::values::walk;
use super::files::Files;
use super::interfaces::Interfaces;
use super::note::Fate;
use super::writer::{Imported, Writer};

/// Reads keepalived.conf for the director that calls itself `config_id` (lines after `@config_id` are for it).
#[must_use]
pub fn import(path: &Path, files: &dyn Files, config_id: &str, interfaces: Interfaces) -> Imported {
    let mut writer = Writer::default();
    let lines = Expansion::new(files, config_id).read(path, &mut writer);
    let statements = tree::statements(&lines, &mut writer);
    drop(lines);
    let mut context = Context { interfaces, ..Context::default() };
    // What others refer to comes first, wherever it stands.
    let mut rest: Vec<&Statement> = Vec::new();
    walk(&statements, Block("file"), "file", &mut writer, |statement, writer| match statement.keyword() {
        "global_defs" => global::read(statement, &mut context, writer),
        "virtual_server_group" => groups::read(statement, &mut context.groups, writer),
        "SSL" => global::ssl(statement, &mut context, writer),
        "vrrp_script" => vrrp::read_script(statement, &mut context, writer),
        "track_file" | "vrrp_track_file" => tracking::read_file(statement, &mut context, writer),
        "vrrp_track_process" => tracking::read_process(statement, &mut context, writer),
        "static_routes" => global::routes(statement, "static_routes", &mut context, writer),
        _ => rest.push(statement),
    });
    global::write(&context, &mut writer);
    for statement in rest.iter().filter(|statement| statement.keyword() == "vrrp_sync_group") {
        vrrp::read_group(statement, &mut context, &mut writer);
    }
    for group in &context.sync_groups {
        group.write(&mut writer);
    }
    let instances = rest.iter().filter(|statement| statement.keyword() == "vrrp_instance");
    for (instance, routes) in instances.flat_map(|one| one.statements().iter().map(move |inner| (one, inner)))
    {
        if routes.keyword() == "virtual_routes" {
            let place = instance.line();
            let stays =
                "its routes stay while this director is backup, where nothing is forwarded for its VIPs";
            writer.tell(routes.origin(), &place, "virtual_routes", Fate::Instead(stays));
            global::routes(routes, &place, &mut context, &mut writer);
        }
    }
    for statement in &rest {
        match statement.keyword() {
            "vrrp_instance" => vrrp::write(statement, &mut context, &mut writer),
            "virtual_server" => services::write(statement, &context, &mut writer),
            _ => {}
        }
    }
    let mut head = Writer::default();
    context.interfaces.write(|address| context.vips.contains(&address), &mut head);
    head.append(writer);
    head.finish()
}
