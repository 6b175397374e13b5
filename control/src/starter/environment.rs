//! The environment of a process that the director starts: what a login gives, and nothing of the director's own but where programs are
//! and how numbers and times are written.

use nix::errno::Errno;
use nix::unistd::{Group, User, geteuid};

/// Where programs are when the director's own environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Variables of the director's own environment that are handed on.
const HANDED_ON: [&str; 3] = ["LANG", "LC_ALL", "TZ"];

/// Who a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The numbers of user and group; none for the director's own.
    pub numbers: Option<(u32, u32)>,
    user: Option<User>,
}

/// Why there is no such identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// In words.
    pub why: String,
    /// The error of the question; none when the answer was that there is none.
    pub errno: Option<Errno>,
}

impl Identity {
    /// By the names of a user and, if it is not the user's own, a group, or by their numbers.
    ///
    /// # Errors
    /// Which of them does not exist, or could not be asked for.
    pub fn of(names: Option<&str>) -> Result<Self, Unknown> {
        let Some(names) = names else {
            return Ok(Self { numbers: None, user: User::from_uid(geteuid()).ok().flatten() });
        };
        let none =
            |what: &str, name: &str| Unknown { why: format!("there is no {what} {name}"), errno: None };
        let asked =
            |name: &str, errno| Unknown { why: format!("no answer about {name}"), errno: Some(errno) };
        let mut words = names.split_whitespace();
        let name = words.next().unwrap_or_default();
        let by_number = || User::from_uid(name.parse::<u32>().ok()?.into()).ok().flatten();
        let user = User::from_name(name).map_err(|errno| asked(name, errno))?.or_else(by_number);
        let user = user.ok_or_else(|| none("user", name))?;
        let group = match words.next() {
            None => user.gid,
            Some(name) => {
                let by_number = || Group::from_gid(name.parse::<u32>().ok()?.into()).ok().flatten();
                let group = Group::from_name(name).map_err(|errno| asked(name, errno))?.or_else(by_number);
                group.ok_or_else(|| none("group", name))?.gid
            }
        };
        Ok(Self { numbers: Some((user.uid.as_raw(), group.as_raw())), user: Some(user) })
    }
}

/// The whole environment of a process of this identity that is told these variables.
#[must_use]
pub fn whole(identity: &Identity, told: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut whole = vec![("PATH".to_owned(), path())];
    let own = |name: &str| Some((name.to_owned(), std::env::var(name).ok()?));
    whole.extend(HANDED_ON.into_iter().filter_map(own));
    if let Some(user) = &identity.user {
        let of_user = [
            ("HOME", user.dir.display().to_string()),
            ("LOGNAME", user.name.clone()),
            ("USER", user.name.clone()),
            ("SHELL", user.shell.display().to_string()),
        ];
        whole.extend(of_user.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    whole.extend(told);
    whole
}

/// Where programs are: as the director's own environment says, as far as that names whole paths.
#[must_use]
pub fn path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    let absolute: Vec<_> = own.split(':').filter(|folder| folder.starts_with('/')).collect();
    if absolute.is_empty() { PATH.to_owned() } else { absolute.join(":") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        assert_eq!(Identity::of(Some("root")).unwrap().numbers, Some((0, 0)));
        let nobody = Identity::of(Some("nobody daemon")).unwrap().numbers.unwrap();
        let numbers = format!("{} {}", nobody.0, nobody.1);
        assert_eq!(Identity::of(Some(&numbers)).unwrap().numbers, Some(nobody));
        let unknown = |names| Identity::of(Some(names)).unwrap_err().why;
        assert_eq!(unknown("no_such"), "there is no user no_such");
        assert_eq!(unknown("root no_such"), "there is no group no_such");
    }

    #[test]
    fn the_environment_is_small_and_the_users() {
        let nobody = Identity::of(Some("nobody")).unwrap();
        let whole = whole(&nobody, vec![("SHUNT_REAL".into(), "10.0.0.1".into())]);
        let value =
            |wanted: &str| whole.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        assert_eq!((value("USER"), value("SHUNT_REAL")), (Some("nobody"), Some("10.0.0.1")));
        assert!(value("PATH").is_some_and(|path| path.split(':').all(|folder| folder.starts_with('/'))));
        assert_eq!(value("CARGO_MANIFEST_DIR"), None);
        assert!(whole.len() <= 9);
    }
}
