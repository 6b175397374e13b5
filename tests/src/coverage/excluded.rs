//! What of the kernel's IPVS neither packets nor commands of a scenario can reach, and why. `docs/kernel.md` has the same table.

/// Functions that do not count.
#[derive(Clone, Copy, Debug)]
pub struct Excluded {
    /// Their module; `*` is any.
    pub module: &'static str,
    /// Their names; a `*` stands for anything.
    pub functions: &'static [&'static str],
    /// Why nothing reaches them.
    pub why: &'static str,
}

/// All that do not count.
pub const EXCLUDED: [Excluded; 11] = [
    Excluded {
        module: "*",
        functions: &[
            "init_module",
            "cleanup_module",
            "*_init",
            "*_exit",
            "*_cleanup",
            "*_cleanup.cold",
            "*_cleanup_batch",
            "register_*",
            "unregister_*",
            "*_register_app",
            "*_unregister_app",
            "ip_vs_register_*",
            "ip_vs_unregister_*",
        ],
        why: "run when modules are loaded or a network namespace ends",
    },
    Excluded {
        module: "ip_vs",
        functions: &[
            "do_ip_vs_get_ctl*",
            "do_ip_vs_set_ctl*",
            "__ip_vs_get_service_entries",
            "__ip_vs_get_dest_entries",
            "ip_vs_copy_service*",
        ],
        why: "the socket options of ipvsadm before netlink",
    },
    Excluded {
        module: "ip_vs",
        functions: &[
            "sync_thread_*",
            "start_sync_thread*",
            "stop_sync_thread*",
            "ip_vs_sync_*",
            "ip_vs_proc_conn",
            "ip_vs_process_message*",
            "get_curr_sync_buff",
            "get_mcast_sockaddr",
            "sb_dequeue",
            "ip_vs_send_async",
            "ip_vs_receive",
            "master_wakeup_work_handler",
            "ip_vs_genl_*daemon*",
            "ip_vs_genl_set_daemon",
            "proc_do_sync_*",
            "ip_vs_conn_sync_seq_show",
            "ip_vs_try_bind_dest",
            "ip_vs_find_dest",
        ],
        why: "the sync daemon, whose datagrams have tests of their own",
    },
    Excluded {
        module: "ip_vs_ftp",
        functions: &["*"],
        why: "the helper of FTP: of a director without it the service's ports are what counts",
    },
    Excluded { module: "ip_vs_pe_sip", functions: &["*"], why: "the helper of SIP" },
    Excluded {
        module: "ip_vs",
        functions: &[
            "ip_vs_app_*",
            "ip_vs_bind_app",
            "ip_vs_unbind_app",
            "*_app_conn_bind",
            "ip_vs_new_conn_out*",
            "ip_vs_conn_fill_cport",
            "ip_vs_pe_getbyname",
            "__ip_vs_pe_getbyname",
            "ip_vs_tcp_conn_listen",
        ],
        why: "what helpers alone make something of",
    },
    Excluded {
        module: "ip_vs",
        functions: &[
            "ip_vs_nfct_*",
            "ip_vs_update_conntrack",
            "ip_vs_confirm_conntrack",
            "ip_vs_conn_drop_conntrack",
        ],
        why: "conntrack = 1: netfilter's connections, which this director does not have",
    },
    Excluded {
        module: "ip_vs",
        functions: &["*_debug_packet*"],
        why: "messages of a kernel that is being debugged",
    },
    Excluded {
        module: "ip_vs",
        functions: &["ip_vs_stats_*"],
        why: "files of /proc that ipvsadm does not read",
    },
    Excluded {
        module: "ip_vs",
        functions: &["ip_vs_random_dropentry"],
        why: "draws at random which connections end: drop_entry",
    },
    Excluded { module: "ip_vs", functions: &["ip_vs_dst_event"], why: "a NIC that goes: the guest's stay" },
];

impl Excluded {
    fn has(&self, module: &str, function: &str) -> bool {
        (self.module == "*" || self.module == module)
            && self.functions.iter().any(|pattern| is_like(pattern, function))
    }
}

/// Why nothing reaches a function; none where something should.
#[must_use]
pub fn why(module: &str, function: &str) -> Option<&'static str> {
    EXCLUDED.iter().find(|excluded| excluded.has(module, function)).map(|excluded| excluded.why)
}

/// The table as `docs/kernel.md` has it.
#[must_use]
pub fn table() -> String {
    let row = |excluded: &Excluded| {
        let names = excluded.functions.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let module = if excluded.module == "*" { "all".to_owned() } else { format!("`{}`", excluded.module) };
        format!("| {module} | {} | {} |\n", names.join(", "), excluded.why)
    };
    let head = "| module | functions | why nothing reaches them |\n|---|---|---|\n";
    head.to_owned() + &EXCLUDED.iter().map(row).collect::<String>()
}

/// True when a name is a pattern's text, with anything in the place of each `*`.
fn is_like(pattern: &str, name: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(begin) else { return false };
    let mut parts = rest.split('*').collect::<Vec<_>>();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, behind)) = left.split_once(part) else { return false };
        left = behind;
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_this_table() {
        let text = include_str!("../../../docs/kernel.md");
        assert!(text.contains(&table()), "docs/kernel.md should have:\n{}", table());
    }

    #[test]
    fn what_is_excluded_is_named_and_nothing_else() {
        for (module, function, is_excluded) in [
            ("ip_vs_rr", "cleanup_module", true),
            ("ip_vs_rr", "ip_vs_rr_schedule", false),
            ("ip_vs", "ip_vs_genl_dump_daemons", true),
            ("ip_vs", "ip_vs_genl_dump_services", false),
            ("ip_vs", "tcp_register_app", true),
            ("ip_vs", "sctp_app_conn_bind", true),
            ("ip_vs", "ip_vs_schedule", false),
            ("ip_vs", "ip_vs_in_icmp", false),
            ("ip_vs", "__ip_vs_get_out_rt", false),
            ("ip_vs_pe_sip", "anything", true),
        ] {
            assert_eq!(why(module, function).is_some(), is_excluded, "{module} {function}");
        }
    }
}
