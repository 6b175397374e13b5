//! ICMP errors about clients' packets count as answers of the real server that was asked, whoever sends them and whether or not they go
//! on (kernel: `handle_response_icmp`); others count for nobody.

use shunt_dataplane::forward::{Punt, Verdict};
use shunt_dataplane::id::{Protocol, WorkerId};
use shunt_dataplane::reason::DropReason;
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_tests::director::{Arrival, Director};
use shunt_tests::network::{self, BACK, FRONT, Form, ROUTER, nic_mac, real_mac};
use shunt_tests::packets::{Ip, Tcp, ethernet};

const WORKERS: u8 = 3;

/// A director with a service of one real server, and a connection of client 1.
struct Scene {
    director: Director,
    form: Form,
    method: Method,
    protocol: Protocol,
}

impl Scene {
    fn new(form: Form, method: Method, protocol: Protocol) -> Self {
        let mut service = network::service(form, protocol, 500, Scheduler::Rr, method, 1);
        service.reals[0].address.set_port(500);
        let mut plan = network::plan(vec![service]);
        plan.forwards = vec![network::everything_passes()];
        let mut scene = Self { director: Director::new(WORKERS, 64, plan), form, method, protocol };
        let question = scene.question(form.vip(), 500);
        let frame = ethernet(nic_mac(FRONT), ROUTER, &question);
        assert_eq!(scene.director.take(FRONT, &frame).verdict, Verdict::Send(BACK));
        scene
    }

    /// A packet of the client's.
    fn question(&self, to: &str, client_port: u16) -> Vec<u8> {
        let ip = Ip::new(&self.form.client(1), to);
        match self.protocol {
            Protocol::Tcp => ip.tcp(&Tcp::new(client_port, 500, "S")),
            Protocol::Udp => ip.udp(client_port, 500, b"question"),
            _ => ip.sctp(client_port, 500, &[1, 0, 0, 4]),
        }
    }

    /// The client's packet as the real server got it.
    fn seen(&self, client_port: u16) -> Vec<u8> {
        let to = if self.method == Method::Nat { self.form.real(1) } else { self.form.vip().to_owned() };
        self.question(&to, client_port)
    }

    fn error(&self, from: &str, to: &str, kind: (u8, u8), quote: &[u8]) -> Vec<u8> {
        Ip::new(from, to).icmp(kind.0, kind.1, 1400, quote)
    }

    /// Meets any worker.
    fn take(&mut self, packet: &[u8], worker: u8) -> Verdict {
        let frame = ethernet(nic_mac(BACK), real_mac(1), packet);
        let outcome = self.director.burst(WorkerId(worker), &[Arrival { nic: BACK, frame }]).remove(0);
        outcome.verdict
    }

    fn counted(&self) -> (u64, u64) {
        let (plan, registry) = (self.director.plan(), self.director.registry());
        let service = &plan.services[0];
        let id = registry.service_id(service.listen, service.protocol).expect("a service");
        let id = registry.real_id(id, service.reals[0].address).expect("a real server");
        let counters = registry.counters(id).expect("counters");
        (counters.sum(|cell| &cell.packets_out), counters.sum(|cell| &cell.bytes_out))
    }
}

fn kinds(form: Form) -> [(u8, u8); 3] {
    if form == Form::V4 { [(3, 3), (3, 4), (11, 0)] } else { [(1, 4), (2, 0), (3, 0)] }
}

fn scenes() -> Vec<Scene> {
    let mut scenes = Vec::new();
    for form in Form::BOTH {
        for method in [Method::Dr, Method::Nat, Method::Tun] {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                scenes.push(Scene::new(form, method, protocol));
            }
        }
    }
    scenes
}

#[test]
fn errors_about_a_connection_count_as_its_answers() {
    for mut scene in scenes() {
        let form = scene.form;
        let (client, vip, own) = (form.client(1), form.vip().to_owned(), form.own(BACK).to_owned());
        let (mut packets, mut bytes) = scene.counted();
        for (number, from) in [form.real(1), form.real(9)].iter().enumerate() {
            for kind in kinds(form) {
                let wanted = [
                    (&client, Verdict::Send(FRONT)),
                    (&vip, Verdict::Drop(DropReason::Unwanted)),
                    (&own, Verdict::Punt(Punt::Local)),
                ];
                for (to, verdict) in wanted {
                    let error = scene.error(from, to, kind, &scene.seen(500));
                    let what =
                        format!("{form:?} {} {}: {kind:?} from {from} to {to}", scene.method, scene.protocol);
                    assert_eq!(scene.take(&error, number as u8), verdict, "{what}");
                    packets += 1;
                    bytes += error.len() as u64;
                    assert_eq!(scene.counted(), (packets, bytes), "{what}");
                }
            }
        }
        assert_eq!(scene.director.held(), 0);
    }
}

#[test]
fn errors_about_anything_else_count_for_nobody() {
    for mut scene in scenes() {
        let form = scene.form;
        let real = form.real(1);
        for to in [form.client(1), form.vip().to_owned(), form.own(BACK).to_owned()] {
            // Of no connection; no error about a packet; damaged; which ends here.
            let (help, params) = if form == Form::V4 { ((5, 1), (12, 0)) } else { ((133, 0), (137, 0)) };
            let mut packets = vec![scene.error(&real, &to, kinds(form)[0], &scene.seen(501))];
            packets.extend([help, params].map(|kind| scene.error(&real, &to, kind, &scene.seen(500))));
            if scene.method == Method::Nat {
                let mut damaged = scene.error(&real, &to, kinds(form)[0], &scene.seen(500));
                *damaged.last_mut().expect("bytes") ^= 1;
                packets.push(damaged);
            }
            if to == form.client(1) {
                let ends = Ip::new(&real, &to).ttl(1);
                packets.push(ends.icmp(kinds(form)[0].0, kinds(form)[0].1, 0, &scene.seen(500)));
            }
            for packet in packets {
                scene.take(&packet, 0);
                assert_eq!(scene.counted(), (0, 0), "{form:?} {} {} {to}", scene.method, scene.protocol);
            }
        }
    }
}

/// A removed real server counts no more.
#[test]
fn errors_count_for_no_real_server_that_was_removed() {
    for form in Form::BOTH {
        let mut scene = Scene::new(form, Method::Dr, Protocol::Udp);
        let (plan, registry) = (scene.director.plan(), scene.director.registry());
        let service = registry.service_id(plan.services[0].listen, Protocol::Udp).expect("a service");
        let id = registry.real_id(service, plan.services[0].reals[0].address).expect("a real server");
        scene.director.publish(|plan| plan.services[0].reals.clear());
        let error = scene.error(&form.real(1), &form.client(1), kinds(form)[0], &scene.seen(500));
        assert_eq!(scene.take(&error, 0), Verdict::Send(FRONT));
        let counters = scene.director.registry().counters(id).expect("counters");
        assert_eq!(counters.sum(|cell| &cell.packets_out), 0);
    }
}
