//! Checks by the way of their service: a real server without the VIP is found, one that forwards instead included.

mod table;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command};

use shunt::api::status::RealState;
use shunt_tests::topology::director::{Director, real};
use shunt_tests::topology::place::Place;
use shunt_tests::topology::{Lab, set_kernel};

const VIPS: [&str; 2] = ["192.0.2.10", "2001:db8:f::10"];
const CHECK: &str = r#"{ kind = "http", way = "service", interval = "100ms", timeout = "400ms", fall = 1, rise = 1, alpha = true }"#;
const TUNNEL: &str = "tunnel0";

/// A director with a front arm that nobody is at, and two real servers with kernels of their own behind its back arm.
struct World {
    lab: Lab,
    _hub: Place,
    /// 10.1.0.11 and 10.1.0.12.
    reals: [Place; 2],
    helpers: Vec<Helper>,
}

/// A process that ends with the test.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl World {
    fn new() -> Self {
        let (lab, hub) = (Lab::new(), Place::new());
        lab.cable(["front", "f0"], 1);
        hub.ip("link set lo up\nlink add link0 type bridge mcast_snooping 0\nlink set link0 up");
        hub.cable(&lab, ["back", "port0"]);
        hub.ip("link set port0 master link0");
        let reals = [11, 12].map(|last| real_server(&hub, last));
        Self { lab, _hub: hub, reals, helpers: Vec::new() }
    }

    fn director(&self, forward: &str, further: &str) -> Director {
        let reals = [["10.1.0.11", "10.1.0.12"], ["2001:db8:1::11", "2001:db8:1::12"]];
        Director::start(&self.lab, &self.configuration(forward, further, reals))
    }

    /// With these real servers of the IPv4 VIP and of the IPv6 one.
    fn configuration(&self, forward: &str, further: &str, [v4, v6]: [[&str; 2]; 2]) -> String {
        let service = |(name, vip, reals): (&str, String, [&str; 2])| {
            let [first, second] = reals;
            format!(
                "[[service]]\nname = \"{name}\"\nlisten = \"{vip}:80\"\nprotocol = \"tcp\"\n{forward}\ncheck = {CHECK}\n\
                 real = [{{ address = \"{first}\" }}, {{ address = \"{second}\" }}]\n"
            )
        };
        let v4 = ("web4", VIPS[0].to_owned(), v4);
        let v6 = ("web6", format!("[{}]", VIPS[1]), v6);
        let services = [v4, v6].map(service).concat() + further;
        let devices = ["af_packet:front", "af_packet:back"];
        let runtime = "connections = 4096";
        shunt_tests::topology::arms::configuration(&self.lab, 1, runtime, &devices, &services)
    }

    /// Opens the tunnels that lead to the real servers, whose VIPs are on lo.
    fn decapsulate(&mut self, further: &'static [&'static str]) {
        for place in &self.reals {
            let helper = place.run(move || {
                let helper =
                    Command::new(env!("CARGO_BIN_EXE_decapsulate")).arg(TUNNEL).args(further).spawn();
                Helper(helper.expect("decapsulate"))
            });
            self.helpers.push(helper);
            place.run(|| {
                let file = format!("ipv4/conf/{TUNNEL}/rp_filter");
                shunt_tests::topology::wait_for("the tunnel", || {
                    std::fs::metadata(format!("/proc/sys/net/{file}")).map(|_there| ())
                });
                set_kernel(&file, "0");
            });
        }
    }
}

/// A real server without VIPs that answers HTTP; it answers everybody, and forwards what is not for it, by the director.
fn real_server(hub: &Place, last: u8) -> Place {
    let place = Place::new();
    place.cable_to(hub, "real0", &format!("port{last}"));
    hub.ip(&format!("link set port{last} master link0"));
    place.run(|| {
        for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2"), ("send_redirects", "0")] {
            set_kernel(&format!("ipv4/conf/all/{key}"), value);
        }
    });
    place.ip(&format!(
        "addr add 10.1.0.{last}/24 dev real0\naddr add 2001:db8:1::{last}/64 dev real0 nodad\n\
         route add default via 10.1.0.1\nroute add ::/0 via 2001:db8:1::1"
    ));
    place.run(serve);
    place
}

/// Answers each request to port 80.
fn serve() {
    let listener = TcpListener::bind("[::]:80").expect("port 80");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
}

fn has_vips(place: &Place, has: bool) {
    let verb = if has { "add" } else { "del" };
    let [v4, v6] = VIPS;
    place.ip(&format!("addr {verb} {v4}/32 dev lo\naddr {verb} {v6}/128 dev lo"));
}

/// What is said of a real server that is up.
const WELL: &[&str] = &["GET / succeeds at the VIP"];

/// Waits until a real server is up or down and its reason has all of these words. A machine that is busy may have another one first.
fn wait_state(director: &Director, address: &str, state: RealState, words: &[&str]) {
    director.wait_until(&format!("{address} {}: {words:?}", state.word()), |status| {
        let real = real(status, address);
        let reason = real.reason.as_deref().unwrap_or_default();
        real.state == state && words.iter().all(|word| reason.contains(word))
    });
}

/// Up with the VIP, down without it, and for that reason.
fn the_vip_decides(world: &World, director: &Director, reals: [&str; 2], vips: [&str; 2]) {
    has_vips(&world.reals[0], true);
    has_vips(&world.reals[1], true);
    for (address, _) in reals.iter().zip(vips) {
        wait_state(director, address, RealState::Up, WELL);
    }
    has_vips(&world.reals[0], false);
    for (address, vip) in reals.iter().zip(vips) {
        let words = [" answers a ping, but not at the VIP ", vip, ": does it have the VIP ("];
        wait_state(director, address, RealState::Down, &words);
    }
    has_vips(&world.reals[0], true);
    for address in reals {
        wait_state(director, address, RealState::Up, WELL);
    }
}

#[test]
fn a_dr_real_server_needs_its_vip() {
    let world = World::new();
    let director = world.director("forward = \"dr\"", "");
    the_vip_decides(&world, &director, ["10.1.0.11:80", "[2001:db8:1::11]:80"], VIPS);
    let status = director.settled();
    let all = real(&status, "10.1.0.11:80");
    assert_eq!(all.connections_total, 0, "checks are no clients");
}

#[test]
fn a_tunnel_leads_checks_to_the_vip() {
    let mut world = World::new();
    world.decapsulate(&[]);
    let director = world.director("forward = \"tun\"", "");
    the_vip_decides(&world, &director, ["10.1.0.11:80", "[2001:db8:1::11]:80"], VIPS);
}

/// What a real server without VIP sends on comes back to the director, which must not let the other one answer.
#[test]
fn a_real_server_that_forwards_does_not_pass_for_another() {
    let world = World::new();
    let director = world.director("forward = \"dr\"", "");
    has_vips(&world.reals[1], true);
    wait_state(&director, "10.1.0.12:80", RealState::Up, WELL);
    wait_state(&director, "[2001:db8:1::12]:80", RealState::Up, WELL);
    world.reals[0].run(|| {
        set_kernel("ipv4/ip_forward", "1");
        set_kernel("ipv6/conf/all/forwarding", "1");
    });
    for (address, vip) in ["10.1.0.11:80", "[2001:db8:1::11]:80"].iter().zip(VIPS) {
        let status = director.wait_until("the forwarding real server is seen through", |status| {
            let reason = real(status, address).reason.as_deref().unwrap_or_default();
            reason.contains(&format!(
                "does not take packets for the VIP {vip}: does it have the VIP (on lo, without ARP)?"
            ))
        });
        assert_eq!(real(&status, address).state, RealState::Down);
    }
    assert_eq!(real(&director.status(), "10.1.0.12:80").connections_total, 0);
    assert_eq!(real(&director.status(), "[2001:db8:1::12]:80").connections_total, 0);
}

/// A real server that answers ARP for its VIP is found on the back arm, where the director itself answers nobody for it.
#[test]
fn a_real_server_that_leaks_arp_for_its_vip_is_named() {
    let world = World::new();
    has_vips(&world.reals[0], true);
    has_vips(&world.reals[1], true);
    world.reals[1].run(|| set_kernel("ipv4/conf/all/arp_ignore", "0"));
    world.reals[1].ip("addr add 2001:db8:f::10/128 dev real0 nodad");
    let director = world.director("forward = \"dr\"", "");
    let status = director.wait_until("both leaks", |status| status.conflicts.len() == 2);
    for (conflict, (vip, real)) in
        status.conflicts.iter().zip([(VIPS[0], "10.1.0.12"), (VIPS[1], "2001:db8:1::12")])
    {
        assert_eq!((conflict.nic.as_str(), conflict.address.as_str()), ("back", vip));
        let text = &conflict.text;
        assert!(text.contains(&format!("real server {real}")), "{text}");
    }
    // It is told, and no more.
    wait_state(&director, "10.1.0.12:80", RealState::Up, WELL);
    director.wait_logged("arp_ignore=1");
}

/// Whoever takes over has to know who is well.
#[test]
fn a_director_that_is_not_master_checks_all_the_same() {
    let world = World::new();
    has_vips(&world.reals[0], true);
    let vrrp = |name: &str, vrid: u8, vip: &str| {
        format!(
            "[[vrrp]]\nname = \"{name}\"\nnic = \"front\"\nvrid = {vrid}\naddresses = [\"{vip}\"]\n\
             track = [{{ name = \"never\", check = {{ kind = \"script\", command = [\"false\"] }} }}]\n"
        )
    };
    let further = vrrp("four", 51, VIPS[0]) + &vrrp("six", 52, VIPS[1]);
    let director = world.director("forward = \"dr\"", &further);
    for (up, down) in [("10.1.0.11:80", "10.1.0.12:80"), ("[2001:db8:1::11]:80", "[2001:db8:1::12]:80")] {
        wait_state(&director, up, RealState::Up, WELL);
        wait_state(&director, down, RealState::Down, &["does it have the VIP"]);
    }
    assert!(!director.log().contains("vrrp four: master"), "{}", director.log());
}

/// An IPv4 VIP in IPv6 tunnels, and the other way round, before and after a reload.
#[test]
fn tunnels_of_the_other_family_lead_checks_to_the_vip() {
    let mut world = World::new();
    world.decapsulate(&[]);
    has_vips(&world.reals[0], true);
    let (v4, v6) = (["10.1.0.11", "10.1.0.12"], ["2001:db8:1::11", "2001:db8:1::12"]);
    let director = Director::start(&world.lab, &world.configuration("forward = \"tun\"", "", [v6, v4]));
    for (up, down) in [("10.1.0.11:80", "10.1.0.12:80"), ("[2001:db8:1::11]:80", "[2001:db8:1::12]:80")] {
        wait_state(&director, up, RealState::Up, WELL);
        wait_state(&director, down, RealState::Down, &["does it have the VIP"]);
    }
    director.reload(&world.lab, &world.configuration("forward = \"tun\"", "", [v4, v6]));
    has_vips(&world.reals[1], true);
    for address in ["10.1.0.11:80", "10.1.0.12:80", "[2001:db8:1::11]:80", "[2001:db8:1::12]:80"] {
        wait_state(&director, address, RealState::Up, WELL);
    }
}
