//! Roots: the first one, those that follow, and the signatures that a document has and needs.

use std::collections::BTreeMap;

use proto::{
    crypto::PublicKey,
    time::Utc,
    trust::{DocumentKind, Envelope, Role, RoleKeys, Root},
};

use crate::error::{CliError, ExitCode};

/// The changes of the next root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootChange {
    /// Keys that a role gets.
    pub add: Vec<(Role, PublicKey)>,
    /// Ids of keys that a role loses: that is how a key is revoked.
    pub remove: Vec<(Role, String)>,
    /// Number of keys of a role that must sign.
    pub threshold: Vec<(Role, u32)>,
    /// Devices reject sequences below it; it never falls within an epoch.
    pub sequence_floor: Option<u64>,
    /// Change of the epoch.
    pub epoch: EpochChange,
}

/// The change of the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EpochChange {
    /// The same epoch: sequences continue.
    #[default]
    Keep,
    /// Everything signed before is void, and sequences and floor count from the beginning.
    Next,
}

/// Returns root 1 with the keys of a change; the default threshold of a role is one.
///
/// # Errors
///
/// [`CliError`] that names the role with too few keys.
pub fn first_root(expires: Utc, change: &RootChange) -> Result<Root, CliError> {
    let none = || RoleKeys { threshold: 1, keys: Vec::new() };
    let roles = Role::ALL.into_iter().map(|role| (role, none())).collect();
    let empty = Root { version: 0, expires, roles, sequence_floor: 0, epoch: 1 };
    next_root(&empty, expires, change)
}

/// Returns the root that follows `current`.
///
/// # Errors
///
/// [`CliError`] that names the role or the key at fault.
pub fn next_root(current: &Root, expires: Utc, change: &RootChange) -> Result<Root, CliError> {
    let mut roles = current.roles.clone();
    for (role, key_id) in &change.remove {
        remove_key(&mut roles, *role, key_id)?;
    }
    for (role, key) in &change.add {
        let keys = &mut keys_of(&mut roles, *role).keys;
        if keys.contains(key) {
            let id = key.key_id();
            return Err(ExitCode::Conflict.with_message(format!("{id} is a {role} key already")));
        }
        keys.push(*key);
    }
    for (role, threshold) in &change.threshold {
        keys_of(&mut roles, *role).threshold = *threshold;
    }
    for (role, keys) in &roles {
        check_threshold(*role, keys)?;
    }
    let version = current.version.checked_add(1);
    let (epoch, floor) = match change.epoch {
        EpochChange::Keep => (Some(current.epoch), current.sequence_floor),
        EpochChange::Next => (current.epoch.checked_add(1), 0),
    };
    let last = || ExitCode::Policy.with_message("there is no version or epoch after the last");
    let sequence_floor = change.sequence_floor.unwrap_or(floor);
    if sequence_floor < floor {
        let text = format!("--floor {sequence_floor} is below {floor}; within an epoch it rises");
        return Err(ExitCode::Policy.with_message(text));
    }
    Ok(Root {
        version: version.ok_or_else(last)?,
        expires,
        roles,
        sequence_floor,
        epoch: epoch.ok_or_else(last)?,
    })
}

fn keys_of(roles: &mut BTreeMap<Role, RoleKeys>, role: Role) -> &mut RoleKeys {
    roles.entry(role).or_insert_with(|| RoleKeys { threshold: 1, keys: Vec::new() })
}

fn remove_key(
    roles: &mut BTreeMap<Role, RoleKeys>,
    role: Role,
    key_id: &str,
) -> Result<(), CliError> {
    let keys = &mut keys_of(roles, role).keys;
    let before = keys.len();
    keys.retain(|key| key.key_id() != key_id);
    if keys.len() == before {
        return Err(ExitCode::NotFound.with_message(format!("the root has no {role} key {key_id}")));
    }
    Ok(())
}

fn check_threshold(role: Role, keys: &RoleKeys) -> Result<(), CliError> {
    let (threshold, count) = (keys.threshold, keys.keys.len());
    if count == 0 {
        return Err(ExitCode::Usage.with_message(format!("no {role} key: --add {role}=KEY")));
    }
    if threshold == 0 || usize::try_from(threshold).map_or(true, |threshold| threshold > count) {
        let text = format!("--threshold {role}={threshold}, but the role has {count} keys");
        return Err(ExitCode::Usage.with_message(text));
    }
    Ok(())
}

/// One set of keys of which enough must have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// Owner of the keys: `root 3` or `campaign keys of root 3`.
    pub of: String,
    /// Number of keys that must sign.
    pub needed: u32,
    /// Ids of those that have.
    pub signed: Vec<String>,
    /// Ids of those that have not.
    pub unsigned: Vec<String>,
}

impl Quorum {
    fn new(of: String, keys: &RoleKeys, envelope: &Envelope) -> Self {
        let signers = envelope.signers(&keys.keys);
        let (signed, unsigned): (Vec<_>, Vec<_>) =
            keys.keys.iter().partition(|key| signers.contains(key));
        let ids = |keys: Vec<&PublicKey>| keys.into_iter().map(PublicKey::key_id).collect();
        Self { of, needed: keys.threshold, signed: ids(signed), unsigned: ids(unsigned) }
    }

    /// Returns the number of missing signatures.
    #[must_use]
    pub fn missing(&self) -> u32 {
        self.needed.saturating_sub(u32::try_from(self.signed.len()).unwrap_or(u32::MAX))
    }
}

/// Returns the sets of keys that must sign a document. A root is signed by its own keys and by
/// those of the root before it; everything else by the keys that `root` has for it.
///
/// # Errors
///
/// [`CliError`] when the document is a root that cannot be read.
pub fn quorums(envelope: &Envelope, root: Option<&Root>) -> Result<Vec<Quorum>, CliError> {
    let role = envelope.kind().role();
    let mut quorums = Vec::new();
    let mut version = None;
    if envelope.kind() == DocumentKind::Root {
        let own = Root::read(envelope.payload()).map_err(|error| CliError::trust("root", error))?;
        quorums.push(Quorum::new(format!("root {}", own.version), own.keys(role), envelope));
        version = Some(own.version);
    }
    if let Some(root) = root.filter(|root| Some(root.version) != version) {
        let of = match version {
            Some(_) => format!("root {}", root.version),
            None => format!("{role} keys of root {}", root.version),
        };
        quorums.push(Quorum::new(of, root.keys(role), envelope));
    }
    Ok(quorums)
}

/// Checks that the signature of this key counts.
///
/// # Errors
///
/// [`ExitCode::Refused`] when it does not.
pub fn check_signer(quorums: &[Quorum], key: &PublicKey) -> Result<(), CliError> {
    let id = key.key_id();
    let counts = |quorum: &Quorum| quorum.signed.contains(&id) || quorum.unsigned.contains(&id);
    // Without a root the signers of a manifest or a campaign are unknown.
    if quorums.is_empty() || quorums.iter().any(counts) {
        return Ok(());
    }
    let of: Vec<&str> = quorums.iter().map(|quorum| quorum.of.as_str()).collect();
    let text = format!(
        "key {id} is none of {}; if it belongs to another root, name that one with --root",
        of.join(" and ")
    );
    Err(ExitCode::Refused.with_message(text))
}

#[cfg(test)]
mod tests {
    use proto::crypto::SigningKey;
    use proto::fixtures::documents::random_key;

    use super::*;

    const EXPIRES: Utc = Utc::from_seconds(2_000_000_000);

    fn sealed(root: &Root, keys: &[&SigningKey]) -> Envelope {
        let mut envelope = Envelope::new(DocumentKind::Root, root.emit().unwrap()).unwrap();
        keys.iter().for_each(|key| envelope.sign(key).unwrap());
        envelope
    }

    fn first(root: &[&SigningKey], threshold: u32) -> Root {
        let others = random_key().public();
        let add = root.iter().map(|key| (Role::Root, key.public()));
        let change = RootChange {
            add: add.chain([(Role::Release, others), (Role::Campaign, others)]).collect(),
            threshold: vec![(Role::Root, threshold)],
            ..RootChange::default()
        };
        first_root(EXPIRES, &change).unwrap()
    }

    #[test]
    fn a_root_is_rotated_by_the_thresholds_of_both() {
        let (a, b, c) = (random_key(), random_key(), random_key());
        let one = first(&[&a, &b], 2);
        assert_eq!((one.version, one.epoch), (1, 1));
        let trusted = Root::from_factory(&sealed(&one, &[&a, &b]).emit()).unwrap();
        let change = RootChange {
            add: vec![(Role::Root, c.public())],
            remove: vec![(Role::Root, a.public().key_id())],
            sequence_floor: Some(7),
            ..RootChange::default()
        };
        let two = next_root(&one, EXPIRES, &change).unwrap();
        assert_eq!((two.version, two.sequence_floor), (2, 7));
        let some = sealed(&two, &[&b, &c]);
        let of = |envelope: &Envelope| quorums(envelope, Some(&one)).unwrap();
        let missing: Vec<_> = of(&some).iter().map(|q| (q.of.clone(), q.missing())).collect();
        assert_eq!(missing, [("root 2".to_owned(), 0), ("root 1".to_owned(), 1)]);
        assert_eq!(of(&some)[1].unsigned, [a.public().key_id()]);
        assert!(Root::successor(&trusted, &some.emit()).is_err());
        let all = sealed(&two, &[&a, &b, &c]);
        assert!(Root::successor(&trusted, &all.emit()).is_ok());
        assert!(check_signer(&of(&all), &a.public()).is_ok());
        assert!(check_signer(&quorums(&all, None).unwrap(), &a.public()).is_err());
        assert!(check_signer(&of(&all), &random_key().public()).is_err());
    }

    #[test]
    fn a_change_that_makes_no_root_is_refused_for_its_reason() {
        let (a, b) = (random_key(), random_key());
        let root = first(&[&a, &b], 1);
        let refused = |change: RootChange| {
            let error = next_root(&root, EXPIRES, &change).unwrap_err();
            (error.exit_code(), error.to_string())
        };
        let ids = [&a, &b].map(|key| (Role::Root, key.public().key_id()));
        let none = RootChange { remove: ids.to_vec(), ..RootChange::default() };
        assert_eq!(refused(none), (ExitCode::Usage, "no root key: --add root=KEY".to_owned()));
        let unknown = vec![(Role::Release, "00".to_owned())];
        let unknown = RootChange { remove: unknown, ..RootChange::default() };
        assert_eq!(refused(unknown).0, ExitCode::NotFound);
        let twice = RootChange { add: vec![(Role::Root, a.public())], ..RootChange::default() };
        assert_eq!(refused(twice).0, ExitCode::Conflict);
        for threshold in [0, 3, u32::MAX] {
            let threshold = vec![(Role::Root, threshold)];
            let high = RootChange { threshold, ..RootChange::default() };
            assert_eq!(refused(high).0, ExitCode::Usage);
        }
    }

    #[test]
    fn a_floor_falls_in_a_new_epoch_alone() {
        let root = Root { sequence_floor: 5, ..first(&[&random_key()], 1) };
        let with = |floor, epoch| {
            let change = RootChange { sequence_floor: floor, epoch, ..RootChange::default() };
            next_root(&root, EXPIRES, &change).map(|root| (root.epoch, root.sequence_floor))
        };
        assert_eq!(with(None, EpochChange::Keep).unwrap(), (1, 5));
        assert_eq!(with(None, EpochChange::Next).unwrap(), (2, 0));
        assert_eq!(with(Some(3), EpochChange::Next).unwrap(), (2, 3));
        assert_eq!(with(Some(4), EpochChange::Keep).unwrap_err().exit_code(), ExitCode::Policy);
    }
}
