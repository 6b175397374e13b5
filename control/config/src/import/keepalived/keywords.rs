//! Every keyword of keepalived.conf(5) 2.2.7, with its synonyms, and what becomes of it here.

use shunt_model::fault::Fault;

use crate::document::nearest;
use crate::import::note::Fate::{self, Differs, Ignored, Instead, Refused, Supported};

/// What becomes of each keyword of a list, which are separated by blanks.
pub type Keywords = &'static [(Fate, &'static str)];

/// A block whose lines begin with keywords, by the keyword before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block(pub &'static str);

impl Block {
    /// Its keywords.
    #[must_use]
    pub fn keywords(self) -> Vec<(&'static str, Fate)> {
        let lists = BLOCKS.iter().filter(|(name, _)| *name == self.0).flat_map(|(_, lists)| lists.iter());
        let keywords = lists.flat_map(|list| list.iter());
        keywords.flat_map(|(fate, words)| words.split(' ').map(|word| (word, *fate))).collect()
    }

    /// What becomes of a keyword.
    ///
    /// # Errors
    /// The block has no such keyword.
    pub fn fate(self, word: &str) -> Result<Fate, Fault> {
        let keywords = self.keywords();
        if let Some((_, fate)) = keywords.iter().find(|(keyword, _)| *keyword == word) {
            return Ok(*fate);
        }
        let words: Vec<&str> = keywords.iter().map(|(word, _)| *word).collect();
        let advice = nearest(word, &words)
            .map_or_else(|| "remove it".to_owned(), |near| format!("did you mean {near}?"));
        let holds =
            format!("keepalived ignores the line; docs/keepalived.md lists the keywords of {}", self.0);
        Err(Fault::new(format!("unknown keyword {}", shunt_model::fault::printable(word, 60)), holds, advice))
    }
}

/// What DPVS's fork has and this director not yet.
const DPVS_FULLNAT: &str = "DPVS's FULLNAT is not supported yet: remove it, and use NAT, DR or TUN";
const DPVS_CLIENTS: &str = "DPVS's lists of clients that a service takes are not supported yet: remove it, and filter in front of the director";
const DPVS_MATCH: &str = "DPVS's services by match are not supported yet: remove it; `[[masquerade]]` translates what hosts behind the director begin";

const FILE: Keywords = &[
    (Supported("`[[vrrp]]`"), "vrrp_instance"),
    (Supported("`[[vrrp_group]]`"), "vrrp_sync_group"),
    (Supported("`track` of `[[vrrp]]`"), "vrrp_script"),
    (Supported("`track` of `[[vrrp]]`"), "track_file vrrp_track_file"),
    (Supported("`[[service]]`"), "virtual_server"),
    (Supported("`listen` of a `[[service]]` for each of its members"), "virtual_server_group"),
    (Supported("`ca` of a check"), "SSL"),
    (Supported("(its own keywords)"), "global_defs"),
    (Supported("`[[route]]`"), "static_routes"),
    (Supported("the file is read in its place"), "include includer includem includew includeb includea"),
    (
        Instead("the director is started in the namespace it shall run in: `ip netns exec NAME shunt run`"),
        "net_namespace net_namespace_ipvs",
    ),
    (
        Instead("it sets up the kernel of the host, where this director forwards without it"),
        "namespace_with_ipsets",
    ),
    (Instead("a director is known by its socket, `[runtime] socket`"), "instance use_pid_dir"),
    (Instead("the link of every NIC is watched"), "linkbeat_use_polling linkbeat_interfaces"),
    (Instead("a stop ends within a bounded time"), "child_wait_time"),
    (Differs("own addresses stand in `addresses` of a `[[nic]]`: see that these do"), "static_ipaddress"),
    (Instead("routes of the director stay while it runs"), "track_group"),
    (Refused("use `[[route]]`; policy routing is the router's work"), "static_rules"),
    (Supported("`track` of `[[vrrp]]`"), "vrrp_track_process"),
    (
        Refused(
            "remove it: watch the host itself, by `track` with a ping every 100 ms (`vrrp_script` with ping), or by a check of the real server",
        ),
        "bfd_instance",
    ),
    (Refused(DPVS_FULLNAT), "local_address_group"),
    (Refused(DPVS_CLIENTS), "deny_address_group allow_address_group"),
    (Refused("DPVS's tunnels of the director itself are not supported yet: remove it"), "tunnel_group"),
    (Instead("announcements of all NICs are limited to a rate that switches take"), "garp_group"),
    (Instead("`track` takes a link as down as soon as it is"), "interface_up_down_delays"),
];
const GLOBAL_DEFS: Keywords = &[
    (Instead("nothing is kept on disk between reloads"), "tmp_config_directory config_save_dir"),
    (
        Instead("this director is one process; `[runtime]` says where it runs"),
        "process_names process_name vrrp_process_name checker_process_name lvs_process_name bfd_process_name",
    ),
    (
        Differs("nothing is started: let the unit that starts the director start it"),
        "startup_script startup_script_timeout shutdown_script shutdown_script_timeout",
    ),
    (Supported("`[notify] mail.to`"), "notification_email"),
    (Supported("`[notify] mail.from`"), "notification_email_from"),
    (Supported("`[notify] mail.server`"), "smtp_server"),
    (Supported("`[notify] mail.helo`"), "smtp_helo_name"),
    (Supported("`[notify] mail.timeout`"), "smtp_connect_timeout"),
    (
        Supported("`[notify] mail.events`, where it leaves some out"),
        "smtp_alert smtp_alert_vrrp smtp_alert_checker no_email_faults no_checker_emails",
    ),
    (
        Instead("every failed check stands in `shunt status`; the log has changes of state"),
        "checker_log_all_failures",
    ),
    (Instead("the host name names this director"), "router_id"),
    (
        Refused("remove it: adverts go to the group of the RFC, or to unicast peers"),
        "vrrp_mcast_group4 vrrp_mcast_group6",
    ),
    (Instead("addresses belong to a `[[nic]]`"), "default_interface"),
    (
        Differs(
            "connections are not told to the other director yet: those of a director that fails are lost, but for what sh and mh choose anew",
        ),
        "lvs_sync_daemon",
    ),
    (Supported("`[timeout]`"), "lvs_timeouts"),
    (
        Instead("a director begins with what its configuration has, and leaves nothing behind"),
        "lvs_flush lvs_flush_on_stop lvs_flush_onstop",
    ),
    (Supported("`garp_delay` of every `[[vrrp]]`"), "vrrp_garp_master_delay"),
    (Supported("`garp_repeat` of every `[[vrrp]]`"), "vrrp_garp_master_repeat"),
    (
        Instead("whoever hears a foreign advert as master announces its VIPs again"),
        "vrrp_garp_lower_prio_delay",
    ),
    (
        Instead("whoever hears a foreign advert as master announces its VIPs again"),
        "vrrp_garp_lower_prio_repeat",
    ),
    (Supported("`garp_refresh` of every `[[vrrp]]`"), "vrrp_garp_master_refresh"),
    (Supported("`garp_refresh_repeat` of every `[[vrrp]]`"), "vrrp_garp_master_refresh_repeat"),
    (Supported("`version` of every `[[vrrp]]`"), "vrrp_version"),
    (Differs("a backup waits for three adverts, as the RFC has it"), "vrrp_down_timer_adverts"),
    (
        Instead("announcements of all NICs are limited to a rate that switches take"),
        "vrrp_garp_interval vrrp_gna_interval",
    ),
    (Supported("`garp_repeat` of 1, and no `garp_delay`"), "vrrp_min_garp"),
    (Instead("VIPs are announced on every NIC that holds them"), "vrrp_garp_extra_if vrrp_vmac_garp_intvl"),
    (
        Instead("a master that hears a lower priority answers with an advert at once, as the RFC has it"),
        "vrrp_lower_prio_no_advert vrrp_higher_prio_send_advert",
    ),
    (
        Instead("this director has its own data path, and no packet filter of the kernel stands in its way"),
        "nftables nftables_priority nftables_counters nftables_ifindex nftables_ipvs nftables_ipvs_priority nftables_ipvs_start_fwmark vrrp_iptables vrrp_ipsets disable_local_igmp",
    ),
    (Instead("unicast adverts are taken from peers only"), "vrrp_check_unicast_src"),
    (
        Instead(
            "a master that is followed may tell more or fewer VIPs, which is told; adverts of others with other ones are refused",
        ),
        "vrrp_skip_check_adv_addr",
    ),
    (Supported("no authentication, `accept = false`, no `preempt_delay`"), "vrrp_strict"),
    (
        Instead("the API streams events (docs/api.md)"),
        "vrrp_notify_priority_changes notify_fifo notify_fifo_script vrrp_notify_fifo vrrp_notify_fifo_script lvs_notify_fifo lvs_notify_fifo_script fifo_write_vrrp_states_on_reload",
    ),
    (
        Instead("the thread of VRRP has real-time priority where the system allows it"),
        "max_auto_priority min_auto_priority_delay vrrp_priority checker_priority bfd_priority vrrp_no_swap checker_no_swap bfd_no_swap vrrp_rt_priority checker_rt_priority bfd_rt_priority vrrp_rlimit_rttime checker_rlimit_rttime bfd_rlimit_rttime vrrp_rlimit_rtime checker_rlimit_rtime bfd_rlimit_rtime",
    ),
    (
        Instead("`[runtime] control_core` and `workers` say which core does what"),
        "vrrp_cpu_affinity checker_cpu_affinity bfd_cpu_affinity",
    ),
    (
        Instead("`shunt status --json` and the API tell what SNMP would (docs/api.md)"),
        "snmp_socket enable_snmp_vrrp enable_snmp_keepalived enable_snmp_checker enable_snmp_rfc enable_snmp_rfcv2 enable_snmp_rfcv3 enable_traps",
    ),
    (
        Instead("the API at `[runtime] socket` does what DBus would (docs/api.md)"),
        "enable_dbus dbus_service_name",
    ),
    (Supported("`user` of every script"), "script_user"),
    (Supported("always on: scripts that somebody else may write are refused"), "enable_script_security"),
    (Instead("a NIC stays while the director runs"), "dynamic_interfaces"),
    (
        Instead("this director needs no netlink buffers"),
        "vrrp_netlink_cmd_rcv_bufs vrrp_netlink_cmd_rcv_bufs_force vrrp_netlink_monitor_rcv_bufs vrrp_netlink_monitor_rcv_bufs_force lvs_netlink_cmd_rcv_bufs lvs_netlink_cmd_rcv_bufs_force lvs_netlink_monitor_rcv_bufs lvs_netlink_monitor_rcv_bufs_force process_monitor_rcv_bufs process_monitor_rcv_bufs_force vrrp_rx_bufs_policy vrrp_rx_bufs_multiplier",
    ),
    (Instead("real servers count as up until a check says otherwise, without a notice"), "rs_init_notifies"),
    (Instead("the director writes no files"), "umask"),
    (Supported("`start_delay` of every `[[vrrp]]`"), "vrrp_startup_delay"),
    (Instead("adverts of unknown VRIDs are counted in `shunt status`"), "log_unknown_vrids"),
    (Instead("no interface is made for a virtual MAC"), "vmac_prefix vmac_addr_prefix"),
    (Instead("`_RANDOM` gives the same numbers each time a file is read"), "random_seed"),
    (Instead("a reload always checks the whole configuration first"), "reload_check_config"),
    (Supported("the includes after it insist on what it names"), "include_check"),
    (Differs("nothing is reloaded then: let a timer type `shunt reload`"), "reload_time_file reload_repeat"),
    (Ignored("older versions called it router_id so"), "lvs_id"),
    (
        Differs(
            "keepalived 2.2.7 does not know it, and later ones wait so long after a boot: this director begins when it is started",
        ),
        "vrrp_delay_after_boot",
    ),
    (
        Ignored("later versions know it"),
        "dbus_no_interface_name iproute_etc_dir iproute_usr_dir json_dump_file json_version set_supplementary_groups snmp_rs_stats_update_interval snmp_vs_stats_update_interval state_dump_file stats_dump_file use_symlink_paths vrrp_owner_ignore_adverts",
    ),
    (Instead("`shunt reload` returns when every worker runs the new configuration"), "reload_file"),
    (Instead("`shunt status --json` shows what the data files would"), "data_use_instance"),
];
const VRRP_SCRIPT: Keywords = &[
    (Supported("`command` of the check"), "script"),
    (Supported("`interval` of the check"), "interval"),
    (Supported("`timeout` of the check"), "timeout"),
    (Supported("`weight` and `reverse` of `track`"), "weight"),
    (Supported("`rise` of the check"), "rise"),
    (Supported("`fall` of the check"), "fall"),
    (Supported("`user` of the check"), "user"),
    (Instead("a check fails until it has passed"), "init_fail"),
];
const TRACK_FILE: Keywords = &[
    (Supported("`path` of the check"), "file"),
    (Supported("`factor` of the check"), "weight"),
    (Supported("`missing` of the check; the file is made by whoever writes it"), "init_file"),
];
const VRRP_TRACK_PROCESS: Keywords = &[
    (Supported("`process` of the check"), "process"),
    (Supported("`compare`"), "param_match full_command"),
    (Supported("`weight` and `reverse` of `track`"), "weight"),
    (Supported("`quorum`"), "quorum"),
    (Supported("`quorum_max`"), "quorum_max"),
    (Supported("`rise` of the check, in looks of half a second"), "fork_delay"),
    (Supported("`fall` of the check, in looks of half a second"), "terminate_delay"),
    (Supported("`rise` and `fall` of the check"), "delay"),
];
const VRRP_SYNC_GROUP: Keywords = &[
    (Supported("`members` of `[[vrrp_group]]`"), "group"),
    (Supported("`track` of its members"), "track_file"),
    (Supported("`track` of its members"), "track_script"),
    (Supported("`track` of its members"), "track_interface"),
    (Supported("`track` of its members"), "track_process"),
    (
        Refused(
            "remove it: watch the host itself, by `track` with a ping every 100 ms (`vrrp_script` with ping), or by a check of the real server",
        ),
        "track_bfd",
    ),
    (Supported("`notify_master`"), "notify_master"),
    (Supported("`notify_backup`"), "notify_backup"),
    (Supported("`notify_fault`"), "notify_fault"),
    (Supported("`notify_stop`"), "notify_stop"),
    (Supported("`notify`"), "notify"),
    (Instead("the API streams events (docs/api.md)"), "notify_priority_changes"),
    (Instead("`[notify] mail.events` says for all of them what mails are about"), "smtp_alert"),
    (
        Instead("an instance that a reload removes runs `notify_fault`, and is told as FAULT"),
        "notify_deleted",
    ),
    (Instead("a group follows what its members track"), "global_tracking sync_group_tracking_weight"),
];
const VRRP_INSTANCE: Keywords = &[
    (
        Supported(
            "MASTER clears nopreempt and preempt_delay, and is 255 without a priority; else the priorities decide",
        ),
        "state",
    ),
    (Supported("`nic`"), "interface"),
    (Supported("`vrid`"), "virtual_router_id"),
    (Supported("`priority`"), "priority"),
    (Supported("`interval`"), "advert_int"),
    (Supported("`version`"), "version"),
    (Supported("`addresses`"), "virtual_ipaddress"),
    (Supported("`excluded`"), "virtual_ipaddress_excluded"),
    (Supported("`auth`"), "authentication"),
    (Supported("`auth`"), "auth_hmac"),
    (
        Differs(
            "DPVS's word is not supported yet: the VIPs are at the NIC of `interface`: give that `[[nic]]` the device",
        ),
        "dpdk_interface",
    ),
    (Supported("`source`"), "mcast_src_ip unicast_src_ip"),
    (Supported("`peers`, `ttl_min`"), "unicast_peer"),
    (Instead("adverts leave with a TTL of 255"), "unicast_ttl"),
    (Supported("`preempt`"), "preempt nopreempt"),
    (Supported("`preempt_delay`"), "preempt_delay"),
    (Supported("`accept`"), "accept no_accept"),
    (Supported("`use_vmac`; no interface is made for it"), "use_vmac"),
    (Supported("`track`"), "track_interface"),
    (Supported("`track`"), "track_file"),
    (Supported("`track`"), "track_script"),
    (Supported("`track`"), "track_process"),
    (
        Refused(
            "remove it: watch the host itself, by `track` with a ping every 100 ms (`vrrp_script` with ping), or by a check of the real server",
        ),
        "track_bfd",
    ),
    (Supported("`notify_master`"), "notify_master"),
    (Supported("`notify_backup`"), "notify_backup"),
    (Supported("`notify_fault`"), "notify_fault"),
    (Supported("`notify_stop`"), "notify_stop"),
    (Supported("`notify`"), "notify"),
    (Instead("the API streams events (docs/api.md)"), "notify_priority_changes"),
    (Instead("`[notify] mail.events` says for all of them what mails are about"), "smtp_alert"),
    (Supported("`garp_delay`"), "garp_master_delay"),
    (Supported("`garp_repeat`"), "garp_master_repeat"),
    (Instead("whoever hears a foreign advert as master announces its VIPs again"), "garp_lower_prio_delay"),
    (Instead("whoever hears a foreign advert as master announces its VIPs again"), "garp_lower_prio_repeat"),
    (Supported("`garp_refresh`"), "garp_master_refresh"),
    (Supported("`garp_refresh_repeat`"), "garp_master_refresh_repeat"),
    (Refused("a `[[nic]]` is in no VRF: remove it"), "vrf"),
    (Supported("`vmac_xmit_base`"), "vmac_xmit_base"),
    (Instead("all VIPs of an instance have its virtual MAC, which belongs to its one NIC"), "use_vmac_addr"),
    (Instead("adverts and VIPs have the NIC's own MAC, as an ipvlan's have"), "use_ipvlan"),
    (Instead("an instance of IPv6 addresses speaks IPv6"), "native_ipv6"),
    (
        Instead("an instance that a reload removes runs `notify_fault`, and is told as FAULT"),
        "notify_deleted",
    ),
    (Differs("the link of its own NIC always counts"), "dont_track_primary"),
    (Refused("remove it: adverts go to the group of the RFC, or to unicast peers"), "mcast_dst_ip"),
    (Instead("an own address stays while the director runs"), "track_src_ip"),
    (Instead("unicast adverts are taken from peers only"), "check_unicast_src"),
    (Instead("peers are part of the configuration"), "unicast_fault_no_peer"),
    (Instead("checksums are those of the RFC"), "old_unicast_checksum"),
    (Instead("VIPs are announced on every NIC that holds them"), "garp_extra_if vmac_garp_intvl"),
    (Differs("a backup waits for three adverts, as the RFC has it"), "down_timer_adverts"),
    (
        Instead("a master that hears a lower priority answers with an advert at once, as the RFC has it"),
        "lower_prio_no_advert higher_prio_send_advert",
    ),
    (
        Differs(
            "keepalived 2.2.7 does not know it, and later ones leave the pseudo header out of the checksum of version 3: they would not understand this director: remove it on all",
        ),
        "v3_checksum_as_v2",
    ),
    (Instead("VIPs do not depend on each other here"), "promote_secondaries"),
    (Supported("`[[route]]`, which stays while this director is backup"), "virtual_routes"),
    (Refused("remove it: policy routing is the router's work"), "virtual_rules"),
    (
        Differs(
            "connections are not told to the other director yet: those of a director that fails are lost, but for what sh and mh choose anew",
        ),
        "lvs_sync_daemon_interface",
    ),
    (Ignored("old manual pages misspelled lvs_sync_daemon_interface so"), "lvs_sync_daemon_inteface"),
    (
        Ignored("later versions know it"),
        "no_virtual_ipaddress owner_ignore_adverts thread_timer_expired timer_expired_backup",
    ),
    (
        Instead(
            "a master that is followed may tell more or fewer VIPs, which is told; adverts of others with other ones are refused",
        ),
        "skip_check_adv_addr",
    ),
    (Supported("as `vrrp_strict`, for this instance"), "strict_mode"),
    (Instead("`SHUNT_LOG` says how much is logged"), "debug"),
    (Supported("`notify_master_rx_lower_pri`"), "notify_master_rx_lower_pri"),
    (Instead("this director needs no socket buffers"), "kernel_rx_buf_size"),
    (Instead("the link of every NIC is watched"), "linkbeat_use_polling"),
];
const AUTH_HMAC: Keywords = &[
    (Supported("`auth.keys`"), "key"),
    (Supported("`auth.active_key`"), "active_key"),
    (Supported("`auth.replay`"), "anti_replay"),
    (Supported("`auth.window`"), "time_window"),
    (Supported("`auth.mode`"), "mode"),
];
const AUTHENTICATION: Keywords =
    &[(Supported("`auth.kind`"), "auth_type"), (Supported("`auth.secret`"), "auth_pass")];
const VIRTUAL_SERVER_GROUP: Keywords = &[(Supported("`listen = { fwmark = … }`"), "fwmark")];
const VIRTUAL_SERVER: Keywords = &[
    (Supported("`scheduler`"), "lvs_sched lb_algo"),
    (Supported("`scheduler_flags`"), "flag-1 flag-2 flag-3 sh-port sh-fallback mh-port mh-fallback"),
    (Supported("`one_packet`"), "ops"),
    (Supported("`forward`"), "lvs_method lb_kind"),
    (
        Refused("remove it: clients would be told apart by their addresses, and not by what they say"),
        "persistence_engine",
    ),
    (Ignored("older versions had it for NAT"), "nat_mask net_mask"),
    (Ignored("no scheduler knows it"), "hashed"),
    (Supported("`weight` of its real servers that say none"), "weight"),
    (Supported("`persistence.timeout`"), "persistence_timeout"),
    (Supported("`persistence.netmask`"), "persistence_granularity"),
    (Supported("`protocol`"), "protocol"),
    (Instead("checks go on: a backup knows which real servers are up when it takes over"), "ha_suspend"),
    (Supported("`inhibit_on_failure`"), "inhibit_on_failure"),
    (Supported("`host` of its checks"), "virtualhost"),
    (Instead("`shunt status --json` and the API tell what SNMP would (docs/api.md)"), "snmp_name"),
    (Instead("`[notify] mail.events` says for all of them what mails are about"), "smtp_alert"),
    (Supported("`omega`"), "omega"),
    (Supported("`quorum`"), "quorum"),
    (Refused(DPVS_FULLNAT), "laddr_group_name"),
    (Refused(DPVS_CLIENTS), "daddr_group_name waddr_group_name"),
    (Refused(DPVS_MATCH), "src-range dst-range oif iif"),
    (
        Refused("DPVS's PROXY protocol is not supported yet: remove it here and on the real servers"),
        "proxy_protocol",
    ),
    (Refused("DPVS's scheduling by QUIC's connection ID is not supported yet: remove it"), "quic"),
    (Refused("DPVS's hash of something else than the source is not supported yet: remove it"), "hash_target"),
    (Differs("DPVS's SYN proxy is not supported yet: SYNs reach the real servers"), "syn_proxy"),
    (
        Differs("DPVS's limits of a service's rate are not supported yet: nothing is limited"),
        "bps limit_proportion",
    ),
    (
        Differs("DPVS's word is not supported yet: write `timeout = { tcp = … }` of the `[[service]]`"),
        "establish_timeout",
    ),
    (
        Differs("DPVS's word is not supported yet: connections stay with a real server of weight 0"),
        "expire_quiescent_conn",
    ),
    (
        Differs("DPVS's word is not supported yet: VIPs are at the NIC whose network they are in"),
        "vip_bind_dev",
    ),
    (Supported("`hysteresis`"), "hysteresis"),
    (Supported("`quorum_up`"), "quorum_up"),
    (Supported("`quorum_down`"), "quorum_down"),
    (Supported("`listen = { fwmark = …, family = … }`"), "ip_family"),
    (Supported("`sorry_server`"), "sorry_server"),
    (Supported("`sorry_server.inhibit_on_failure`"), "sorry_server_inhibit"),
    (Supported("`sorry_server.forward`"), "sorry_server_lvs_method"),
    (Supported("`timeout` of its checks"), "connect_timeout"),
    (Supported("`fall` of its checks, one more"), "retry"),
    (Supported("`retry_interval` of its checks"), "delay_before_retry"),
    (Supported("`warmup` of its checks"), "warmup"),
    (Supported("`interval` of its checks"), "delay_loop"),
    (Supported("`alpha`"), "alpha"),
    (Supported("`real`"), "real_server"),
];
const REAL_SERVER: Keywords = &[
    (Supported("`weight`"), "weight"),
    (Supported("`forward`"), "lvs_method"),
    (Ignored("the method of one real server is lvs_method"), "lb_kind"),
    (Supported("`notify_up`"), "notify_up"),
    (Supported("`notify_down`"), "notify_down"),
    (Supported("`u_threshold`"), "uthreshold"),
    (Supported("`l_threshold`"), "lthreshold"),
    (Supported("`inhibit_on_failure`"), "inhibit_on_failure"),
    (Supported("`host` of its checks"), "virtualhost"),
    (Instead("`shunt status --json` and the API tell what SNMP would (docs/api.md)"), "snmp_name"),
    (Instead("`[notify] mail.events` says for all of them what mails are about"), "smtp_alert"),
    (Supported("`timeout` of its checks"), "connect_timeout"),
    (Supported("`fall` of its checks, one more"), "retry"),
    (Supported("`retry_interval` of its checks"), "delay_before_retry"),
    (Supported("`warmup` of its checks"), "warmup"),
    (Supported("`interval` of its checks"), "delay_loop"),
    (Supported("`alpha` of its checks"), "alpha"),
    (
        Supported("`check`"),
        "HTTP_GET SSL_GET TCP_CHECK SMTP_CHECK DNS_CHECK MISC_CHECK PING_CHECK UDP_CHECK FILE_CHECK",
    ),
    (
        Refused(
            "remove it: watch the host itself, by `track` with a ping every 100 ms (`vrrp_script` with ping), or by a check of the real server",
        ),
        "BFD_CHECK",
    ),
];
/// What every checker has that asks a host.
const CONNECTION: Keywords = &[
    (Supported("`address` of the check"), "connect_ip"),
    (Supported("`port`"), "connect_port"),
    (Supported("`from`"), "bindto"),
    (Instead("a check leaves by the NIC that its address belongs to"), "bind_if"),
    (Instead("a check has any source port"), "bind_port"),
    (
        Instead("checks pass no packet filter; to reach the VIP at its real servers: `way = \"service\"`"),
        "fwmark",
    ),
];
/// What every checker has.
const TIMES: Keywords = &[
    (Supported("`timeout` of its checks"), "connect_timeout"),
    (Supported("`fall` of its checks, one more"), "retry"),
    (Supported("`retry_interval` of its checks"), "delay_before_retry"),
    (Supported("`warmup` of its checks"), "warmup"),
    (Supported("`interval` of its checks"), "delay_loop"),
    (Supported("`alpha` of its checks"), "alpha"),
    (
        Instead("every failed check stands in `shunt status`; the log has changes of state"),
        "log_all_failures",
    ),
];
const HTTP_GET_SSL_GET: Keywords = &[
    (Supported("`fall` of its checks, one more"), "nb_get_retry"),
    (Instead("checks speak HTTP/1.1"), "http_protocol"),
    (Instead("every URL is asked in each check"), "fast_recovery"),
    (Supported("`name` (keepalived 2.3 and later)"), "sni_name"),
    (Ignored("later versions know it"), "tls_compliant"),
    (Supported("`path` and what else is asked of it, one check each"), "url"),
    (Instead("the name of `host` is asked for always"), "enable_sni"),
    (Supported("`host`"), "virtualhost"),
];
const URL: Keywords = &[
    (Supported("`path`"), "path"),
    (Supported("`digest`"), "digest"),
    (Supported("`status`"), "status_code"),
    (Supported("`host`"), "virtualhost"),
    (Supported("`answer_regex`"), "regex"),
    (Supported("`answer_without`"), "regex_no_match"),
    (Supported("flags in front of `answer_regex`, `(?i)`"), "regex_options"),
    (Instead("regular expressions need no stack here"), "regex_stack"),
    (Supported("`answer_min`"), "regex_min_offset"),
    (Supported("`answer_max`"), "regex_max_offset"),
];
const SMTP_CHECK: Keywords =
    &[(Supported("`helo`"), "helo_name"), (Supported("`address` and `port` of a check"), "host")];
const HOST: Keywords = &[
    (Supported("`address` of the check"), "connect_ip"),
    (Supported("`port`"), "connect_port"),
    (Supported("`from`"), "bindto"),
    (Supported("`timeout`"), "connect_timeout"),
    (Instead("a check leaves by the NIC that its address belongs to"), "bind_if"),
    (Instead("a check has any source port"), "bind_port"),
    (Instead("checks pass no packet filter"), "fwmark"),
];
const DNS_CHECK: Keywords = &[(Supported("`type`"), "type"), (Supported("`name`"), "name")];
const MISC_CHECK: Keywords = &[
    (Supported("`command`"), "misc_path"),
    (Supported("`timeout`"), "misc_timeout"),
    (Supported("`dynamic`"), "misc_dynamic"),
    (Supported("`user`"), "user"),
];
const BFD_CHECK: Keywords = &[(
    Refused(
        "remove it: watch the host itself, by `track` with a ping every 100 ms (`vrrp_script` with ping), or by a check of the real server",
    ),
    "name",
)];
const UDP_CHECK: Keywords = &[
    (Supported("`payload_hex`"), "payload"),
    (Supported("`require_reply`, `expect_regex`"), "require_reply"),
    (Supported("`min_reply`"), "min_reply_length"),
    (Supported("`max_reply`"), "max_reply_length"),
];
const FILE_CHECK: Keywords = &[
    (Supported("`path`"), "track_file"),
    (Instead("the number in the file always counts"), "dynamic"),
    (Supported("`factor`"), "weight"),
];
const SSL: Keywords = &[
    (Supported("`ca` of https checks"), "ca"),
    (Refused("remove it: checks have no certificate of their own"), "password certificate key"),
];

/// Every block, outermost first.
pub const BLOCKS: &[(&str, &[Keywords])] = &[
    ("file", &[FILE]),
    ("global_defs", &[GLOBAL_DEFS]),
    ("vrrp_script", &[VRRP_SCRIPT]),
    ("track_file", &[TRACK_FILE]),
    ("vrrp_track_process", &[VRRP_TRACK_PROCESS]),
    ("vrrp_sync_group", &[VRRP_SYNC_GROUP]),
    ("vrrp_instance", &[VRRP_INSTANCE]),
    ("authentication", &[AUTHENTICATION]),
    ("auth_hmac", &[AUTH_HMAC]),
    ("virtual_server_group", &[VIRTUAL_SERVER_GROUP]),
    ("virtual_server", &[VIRTUAL_SERVER]),
    ("real_server", &[REAL_SERVER]),
    ("HTTP_GET, SSL_GET", &[CONNECTION, TIMES, HTTP_GET_SSL_GET]),
    ("url", &[URL]),
    ("TCP_CHECK", &[CONNECTION, TIMES]),
    ("SMTP_CHECK", &[CONNECTION, TIMES, SMTP_CHECK]),
    ("host", &[HOST]),
    ("DNS_CHECK", &[CONNECTION, TIMES, DNS_CHECK]),
    ("MISC_CHECK", &[TIMES, MISC_CHECK]),
    ("BFD_CHECK", &[BFD_CHECK]),
    ("PING_CHECK", &[CONNECTION, TIMES]),
    ("UDP_CHECK", &[CONNECTION, TIMES, UDP_CHECK]),
    ("FILE_CHECK", &[FILE_CHECK]),
    ("SSL", &[SSL]),
];
