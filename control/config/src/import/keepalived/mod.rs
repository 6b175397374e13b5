//! keepalived.conf, as keepalived 2.2.7 reads it.
//!
//! Files → lines ([`expand`]) → statements ([`tree`]) → TOML, keyword by keyword; [`keywords`] says what becomes of each.

mod auth_hmac;
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

pub(in crate::import) use scripts::USER as SCRIPT_USER;
pub(in crate::import) use services::netmask;

use std::collections::BTreeSet;
use std::path::Path;

use self::expand::Expansion;
use self::keywords::Block;
use self::services::Context;
use self::tree::{Items, Process, Statement};
use self::values::walk;
use self::vrrp::Instance;
use super::files::Files;
use super::interfaces::Interfaces;
use super::note::Fate;
use super::writer::{Imported, Writer};

/// Reads keepalived.conf for the director that calls itself `config_id` (lines after `@config_id` are for it).
#[must_use]
pub fn import(path: &Path, files: &dyn Files, config_id: &str, interfaces: Interfaces) -> Imported {
    let mut writer = Writer::default();
    let lines = Expansion::new(files, config_id).read(path, &mut writer);
    let items = Items::of(&lines, &mut writer);
    drop(lines);
    // Each of keepalived's processes reads the file in its own way.
    let parent = items.statements(Process::Parent, &mut writer);
    let vrrp = items.statements(Process::Vrrp, &mut writer);
    let checkers = items.statements(Process::Checkers, &mut writer);
    drop(items);
    let mut context = Context { interfaces, ..Context::default() };
    scripts::gone(&vrrp, files, &mut context.gone);
    scripts::gone(&checkers, files, &mut context.gone);
    // global_defs comes first, wherever it stands: keepalived looks at it when all is read.
    let globals = parent.iter().filter(|statement| statement.keyword() == "global_defs");
    for statement in globals {
        global::read(statement, &mut context, &mut writer);
    }
    if context.script_user.is_none() {
        if files.has_user(scripts::USER) {
            context.script_user = Some(scripts::USER.to_owned());
        } else {
            context.gone.default_user = context.script_security;
        }
    }
    context.gone.script_user.clone_from(&context.script_user);
    global::write(&context, global::asked(&vrrp, &checkers), &mut writer);
    let mut routers = Writer::default();
    read_vrrp(&vrrp, files, &mut context, &mut writer, &mut routers);
    writer.append(routers);
    let mut servers = Vec::new();
    let mut rest: Vec<&Statement> = Vec::new();
    walk(&checkers, Block("file"), "file", &mut writer, |statement, writer| match statement.keyword() {
        "virtual_server_group" => groups::read(statement, &mut context.groups, writer),
        "SSL" => global::ssl(statement, &mut context, writer),
        // Those of the other process's reading are the same.
        "track_file" | "vrrp_track_file" => {}
        _ => rest.push(statement),
    });
    for statement in rest {
        servers.extend(services::read(statement, &mut context, &mut writer));
    }
    services::write(servers, &mut writer);
    let mut head = Writer::of(path);
    let routers = context.routes.iter().filter_map(|(_, via, _)| via.as_ref());
    let named: Vec<_> = context.vips.iter().chain(&context.reals).chain(routers).copied().collect();
    context.interfaces.write(files, |address| context.vips.contains(&address), &named, &mut head);
    head.append(writer);
    head.finish()
}

/// What the process that speaks VRRP reads, line by line: what is tracked is defined before, or not found.
fn read_vrrp(
    statements: &[Statement],
    files: &dyn Files,
    context: &mut Context,
    writer: &mut Writer,
    routers: &mut Writer,
) {
    let mut instances: Vec<Instance> = Vec::new();
    walk(statements, Block("file"), "file", writer, |statement, writer| match statement.keyword() {
        "vrrp_script" => {
            vrrp::read_script(statement, context, writer);
            tracking::disable(statement, context, writer);
        }
        "track_file" | "vrrp_track_file" => tracking::read_file(statement, context, writer),
        "vrrp_track_process" => tracking::read_process(statement, context, writer),
        "vrrp_sync_group" => vrrp::read_group(statement, context, writer),
        "static_routes" => global::routes(statement, "static_routes", context, writer),
        "vrrp_instance" => {
            let place = statement.line();
            for line in statement.statements().iter().filter(|line| line.keyword() == "virtual_routes") {
                let stays =
                    "its routes stay while this director is backup, where nothing is forwarded for its VIPs";
                writer.tell(line.origin(), &place, "virtual_routes", Fate::Instead(stays));
                global::routes(line, &place, context, writer);
            }
            auth_hmac::read_files(statement, files, &mut context.key_files);
            instances.extend(vrrp::read(statement, context, writer));
        }
        _ => {}
    });
    let mut taken = BTreeSet::new();
    let mut groups = std::mem::take(&mut context.sync_groups);
    groups.retain_mut(|group| group.complete(&instances, &mut taken, writer));
    for group in &groups {
        group.write(writer);
    }
    for instance in instances {
        instance.write(&groups, context, routers);
    }
}
