//! Generates the bindings from the installed DPDK, compiles the shim, and tells the linker which libraries to use.

use std::env;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::exit;

/// The oldest DPDK whose names and meanings this crate relies on.
const OLDEST: &str = "22.11";

/// The libraries that this crate calls. Drivers are plugins, which EAL finds and loads by itself; that of rings is here
/// because it is also called.
const LIBRARIES: [&str; 7] =
    ["rte_eal", "rte_ethdev", "rte_hash", "rte_mbuf", "rte_mempool", "rte_ring", "rte_net_ring"];

/// What was a part of rte_eal once and is a library of its own in newer DPDK: the log since 23.11, arguments since 24.03.
const PARTED_LIBRARIES: [&str; 2] = ["rte_argparse", "rte_log"];

/// With the feature `static`: the libraries above and what they and the drivers below stand on.
const STATIC_LIBRARIES: [&str; 25] = [
    "rte_kvargs",
    "rte_telemetry",
    "rte_eal",
    "rte_ring",
    "rte_stack",
    "rte_rcu",
    "rte_mempool",
    "rte_mbuf",
    "rte_net",
    "rte_meter",
    "rte_ethdev",
    "rte_pci",
    "rte_hash",
    "rte_timer",
    "rte_cryptodev",
    "rte_dmadev",
    "rte_security",
    "rte_gso",
    "rte_vhost",
    "rte_mempool_stack",
    "rte_bus_auxiliary",
    "rte_bus_pci",
    "rte_bus_vdev",
    "rte_common_iavf",
    "rte_common_mlx5",
];

/// With the feature `static`: the drivers of NICs that are linked in.
const STATIC_DRIVERS: [&str; 18] = [
    "af_packet",
    "af_xdp",
    "e1000",
    "ena",
    "i40e",
    "iavf",
    "ice",
    "igc",
    "ixgbe",
    "memif",
    "mlx5",
    "null",
    "pcap",
    "ring",
    "tap",
    "vhost",
    "virtio",
    "vmxnet3",
];

/// With the feature `static`: libraries outside DPDK that those call, linked dynamically.
const STATIC_DEPENDENCIES: [&str; 7] = ["bsd", "ibverbs", "mlx5", "numa", "pcap", "xdp", "bpf"];

/// The DPDK functions that are called as they are.
const FUNCTIONS: &str = "shim_.*|rte_eal_(init|cleanup|get_runtime_dir)|rte_strerror|rte_version|rte_thread_(un)?register\
    |rte_get_tsc_hz|rte_pktmbuf_free_bulk|rte_mempool_avail_count|rte_ring_free\
    |rte_dev_(probe|remove)\
    |rte_eth_dev_(adjust_nb_rx_tx_desc|close|configure|get_mtu|get_name_by_port|get_port_by_name|info_get|start|stop\
    |is_valid_port|mac_addr_add|mac_addr_remove|socket_id)\
    |rte_eth_dev_rx_intr_ctl_q_get_fd|rte_eth_(rx|tx)_queue_setup|rte_eth_macaddr_get|rte_eth_stats_get|rte_eth_find_next_of\
    |rte_hash_(create|free|add_key_data|lookup_bulk_data)|rte_eth_from_rings|rte_eth_(promiscuous|allmulticast)_(enable|disable|get)";

/// The constants that are read as they are.
const CONSTANTS: &str = "SHIM_.*|RTE_LOG_.*|RTE_PKTMBUF_HEADROOM|RTE_MAX_ETHPORTS|RTE_MEMPOOL_CACHE_MAX_SIZE\
    |RTE_HASH_LOOKUP_BULK_MAX";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=shim.h");
    println!("cargo:rerun-if-changed=shim.c");
    println!("cargo:rerun-if-changed=processor.c");
    let library = installed();
    let flags = compiler_flags(&library);
    bindings(&flags);
    shim(&flags);
    processor();
    link(&library);
}

/// Says what to link: DPDK's shared libraries, which load their drivers by themselves, or with the feature `static`
/// its archives. Those register their drivers from constructors that nothing refers to, so they are taken whole.
fn link(installed: &pkg_config::Library) {
    for path in &installed.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    let parted =
        PARTED_LIBRARIES.into_iter().filter(|library| installed.libs.iter().any(|has| has == library));
    if env::var_os("CARGO_FEATURE_STATIC").is_none() {
        for library in LIBRARIES.into_iter().chain(parted) {
            println!("cargo:rustc-link-lib={library}");
        }
        return;
    }
    let drivers = STATIC_DRIVERS.iter().map(|driver| format!("rte_net_{driver}"));
    let libraries = parted.chain(STATIC_LIBRARIES).map(str::to_owned);
    for library in libraries.chain(drivers) {
        println!("cargo:rustc-link-lib=static:+whole-archive,-bundle={library}");
    }
    for library in STATIC_DEPENDENCIES {
        println!("cargo:rustc-link-lib={library}");
    }
}

/// Ends the build with a message that says what to install.
fn fail(message: &str) -> ! {
    eprintln!("dpdk-sys: {message}");
    exit(1);
}

/// What pkg-config says of libdpdk.
fn installed() -> pkg_config::Library {
    match pkg_config::Config::new().atleast_version(OLDEST).cargo_metadata(false).probe("libdpdk") {
        Ok(library) => library,
        Err(pkg_config::Error::Command { .. }) => {
            fail("pkg-config cannot be run: install the package pkg-config")
        }
        Err(pkg_config::Error::ProbeFailure { output, .. }) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            if said.contains("has version") || said.contains("Requested") {
                fail(&format!("DPDK is too old: {said}: install a libdpdk-dev of {OLDEST} or newer"));
            }
            fail(&format!(
                "DPDK {OLDEST} or newer is not found by pkg-config: install the package libdpdk-dev, or point \
                 PKG_CONFIG_PATH at the directory of libdpdk.pc ({said})"
            ));
        }
        Err(other) => fail(&format!("pkg-config libdpdk: {other}: install the package libdpdk-dev")),
    }
}

/// The flags for a C compiler.
fn compiler_flags(library: &pkg_config::Library) -> Vec<String> {
    let mut flags: Vec<String> =
        library.include_paths.iter().map(|path| format!("-I{}", path.display())).collect();
    // DPDK's own headers expect its configuration before everything else; pkg-config hands it over as `-include`.
    flags.extend(["-include".to_owned(), "rte_config.h".to_owned()]);
    flags
}

/// Writes `bindings.rs`: the functions, types and constants on the lists above and nothing else.
fn bindings(flags: &[String]) {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("bindings.rs");
    let builder = bindgen::Builder::default()
        .header("shim.h")
        .clang_args(flags)
        .allowlist_function(FUNCTIONS)
        .allowlist_var(CONSTANTS)
        // Used behind a pointer only; the shim knows where the fields of an mbuf lie.
        .opaque_type("rte_(mbuf|mempool|ring|hash|device|dev_iterator|eth_dev)")
        // Packed and aligned at once, which Rust cannot express.
        .opaque_type("rte_arp_.*|rte_l2tpv2.*|rte_gtp.*")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(true)
        .generate_comments(false)
        .layout_tests(true);
    // bindgen loads libclang while it runs and panics where there is none.
    panic::set_hook(Box::new(|_| {}));
    let generated = panic::catch_unwind(panic::AssertUnwindSafe(move || builder.generate()));
    let _ = panic::take_hook();
    match generated {
        Ok(Ok(bindings)) => {
            if let Err(error) = bindings.write_to_file(&out) {
                fail(&format!("{}: {error}", out.display()));
            }
        }
        Ok(Err(error)) => fail(&format!("the headers of DPDK cannot be read: {error}")),
        Err(_) => fail("libclang cannot be loaded: install the packages clang and libclang-dev"),
    }
}

/// Compiles the look at the processor, for the oldest one of its kind. Nothing refers to it, so it is taken whole.
fn processor() {
    let mut build = cc::Build::new();
    build.file(Path::new("processor.c")).std("gnu11").link_lib_modifier("+whole-archive");
    let built_for = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if built_for.split(',').any(|feature| feature == "avx2") {
        build.define("BUILT_FOR_V3", None);
    }
    if let Err(error) = build.try_compile("processor") {
        fail(&format!("processor.c does not compile: {error}"));
    }
}

/// Compiles the shim, optimised in every profile: its functions run for every burst.
fn shim(flags: &[String]) {
    let mut build = cc::Build::new();
    build.file(Path::new("shim.c")).opt_level(3).std("gnu11");
    for flag in flags {
        build.flag(flag);
    }
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        // The least that DPDK's inline functions are written for.
        build.flag("-msse4.2");
    }
    if let Err(error) = build.try_compile("dpdk_shim") {
        fail(&format!("shim.c does not compile: {error}"));
    }
}
