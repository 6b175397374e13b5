//! Status of very many real servers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use shunt_config::Config;
use shunt_dataplane::flow::{HashKey, Owners};
use shunt_dataplane::id::Mac;

use super::*;
use crate::publish::Publisher;

const REALS: u32 = 10;

fn view(services: u32) -> View {
    let mut text = "[[nic]]\nname = \"front\"\ndevice = \"null:\"\naddresses = [\"10.0.0.1/8\"]\n".to_owned();
    for service in 0..services {
        let [_, _, high, low] = service.to_be_bytes();
        let real = |real: u32| format!("{{ address = \"10.{}.{high}.{low}\" }}", 100 + real);
        let reals: Vec<String> = (0..REALS).map(real).collect();
        text += &format!(
            "[[service]]\nname = \"s{service}\"\nlisten = \"10.2.{high}.{low}:80\"\nprotocol = \"tcp\"\nreal = [{}]\n",
            reals.join(", ")
        );
    }
    let config = Config::check("test", &text).unwrap_or_else(|problems| panic!("{problems}")).config;
    let owners = Owners { workers: 1, netmask_v4: 32, netmask_v6: 128, key: HashKey::random() };
    let publisher = Publisher::new(owners, vec![Mac::default()], Vec::new(), &config);
    View {
        config: Arc::new(config),
        loaded: SystemTime::now(),
        snapshot: publisher.snapshots().load_full(),
        state: publisher.state().clone(),
    }
}

/// The least that it takes to list all services, out of some attempts.
fn takes(view: &View) -> Duration {
    let attempt = || {
        let begin = Instant::now();
        let listed = services(view, Vec::new(), Tick(0));
        let all = listed.iter().flat_map(|service| &service.reals);
        assert!(all.clone().all(|real| real.next_hop == "unresolved"));
        assert_eq!(all.count(), view.config.services.len() * REALS as usize);
        begin.elapsed()
    };
    (0..5).map(|_| attempt()).min().unwrap_or_default()
}

/// Each real server is found by its key: looked for among all of them, ten times as many would take a hundred times as long.
#[test]
fn what_status_takes_grows_with_real_servers_and_no_faster() {
    let [few, many] = [view(200), view(2_000)].map(|view| takes(&view));
    assert!(many < few * 40, "2,000 real servers take {few:?}, 20,000 take {many:?}");
}
