//! How much of what a director serves a new configuration leaves away.
//!
//! A file that was cut off while it was written is often still TOML: all that is missing is its end.

use shunt_model::fault::Fault;

use super::Config;

/// Percent of the services, or of their real servers, that a reload may leave away without being asked for it.
pub const RELOAD_REMOVES_DEFAULT: u8 = 50;

/// Whether `new` has fewer services or real servers than it may, after `old`: more than [`super::Runtime::reload_removes`] percent
/// fewer. Those that are replaced by others do not count.
///
/// # Errors
/// What is missing.
pub fn few_enough(old: &Config, new: &Config) -> Result<(), Fault> {
    let most = usize::from(new.runtime.reload_removes);
    let reals = |config: &Config| config.services.iter().map(|service| service.reals.len()).sum();
    let counts: [(&str, usize, usize); 2] =
        [("services", old.services.len(), new.services.len()), ("real servers", reals(old), reals(new))];
    for (what, before, after) in counts {
        if before.saturating_sub(after) * 100 > before * most {
            return Err(Fault::new(
                format!("leaves {after} of {before} {what}: was the file cut off?"),
                format!("a reload takes away at most {most} % of them (runtime.reload_removes)"),
                "`shunt reload --yes` takes it, or a larger runtime.reload_removes",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(services: &[usize], most: &str) -> Config {
        let mut text =
            format!("{most}\n[[nic]]\nname = \"front\"\ndevice = \"null:\"\naddresses = [\"10.0.0.1/8\"]\n");
        for (number, reals) in services.iter().enumerate() {
            let reals: Vec<String> =
                (0..*reals).map(|real| format!("{{ address = \"10.1.{number}.{}\" }}", real + 1)).collect();
            text += &format!(
                "[[service]]\nname = \"s{number}\"\nlisten = \"10.2.0.{}:80\"\nprotocol = \"tcp\"\nreal = [{}]\n",
                number + 1,
                reals.join(", ")
            );
        }
        Config::check("test", &text).unwrap_or_else(|problems| panic!("{problems}")).config
    }

    #[test]
    fn more_than_half_is_too_much() {
        let (any, few) = ("[runtime]\nreload_removes = 100", "[runtime]\nreload_removes = 0");
        for (old, new, most, good) in [
            (&[1, 1, 1, 1][..], &[1, 1][..], "", true),
            (&[1, 1, 1, 1], &[1], "", false),
            (&[1, 1, 1, 1], &[1], any, true),
            (&[1, 1, 1, 1], &[], any, true),
            (&[1, 1, 1, 1], &[1, 1, 1], few, false),
            (&[1], &[], "", false),
            (&[2, 2], &[2], "", true),
            (&[1, 9], &[1, 3], "", false),
            (&[1, 9], &[1, 3], any, true),
            (&[3], &[3, 5, 5], few, true),
            (&[], &[], "", true),
        ] {
            let found = few_enough(&config(old, ""), &config(new, most));
            assert_eq!(found.is_ok(), good, "{old:?} {new:?} {most}: {found:?}");
        }
    }
}
