//! The store in memory, for tests and simulations.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use proto::{
    crypto::sha256,
    dm::auth::AuthKind,
    ids::{CampaignId, Correlator, DeviceId},
    time::Utc,
};

use super::{
    address::ProvedFrom,
    attempt::ArmingAttempt,
    audit::{Audit, AuditLine},
    challenge::ChallengeKey,
    device::Device,
    package_secret::PackageSecret,
    store::{CampaignDevice, Change, DamagedCampaign, FleetStore, Listed, PhaseCounts, StoreError},
};
use crate::campaign::model::Campaign;

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Tables>);

type ArmingKey = (DeviceId, CampaignId, u32);

#[derive(Debug, Default)]
struct Tables {
    devices: BTreeMap<DeviceId, Device>,
    campaigns: BTreeMap<CampaignId, Campaign>,
    created: Vec<CampaignId>,
    armings: BTreeMap<ArmingKey, ArmingAttempt>,
    correlators: BTreeMap<Correlator, ArmingKey>,
    audit: Vec<AuditLine>,
    packages: BTreeMap<CampaignId, Arc<[u8]>>,
}

impl MemoryStore {
    /// Stores the bundle of a campaign.
    pub fn put_package(&self, id: CampaignId, octets: &[u8]) {
        self.tables().packages.insert(id, octets.into());
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A panic elsewhere leaves consistent rows: all changes are checked before one is made.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn page<T>(rows: impl Iterator<Item = (String, T)>, limit: u32) -> Vec<Listed<T>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    rows.take(limit).map(|(key, row)| Listed { key, row: Ok(row) }).collect()
}

fn key(arming: &ArmingAttempt) -> ArmingKey {
    (arming.device.clone(), arming.campaign, arming.attempt)
}

impl Tables {
    fn check(&self, change: &Change) -> Result<(), StoreError> {
        let (what, stored, carried) = match change {
            Change::Device(row) => {
                let is_named = row.auth.kind == AuthKind::Mac;
                let holder = is_named.then(|| self.of_user(&row.auth.user)).flatten();
                if holder.is_some_and(|holder| *holder != row.id) {
                    return Err(StoreError::Conflict("device"));
                }
                ("device", self.devices.get(&row.id).map(|found| found.version), row.version)
            }
            Change::Campaign(row) => {
                ("campaign", self.campaigns.get(&row.id).map(|found| found.version), row.version)
            }
            Change::Attempt(row) => {
                let taken = self.correlators.get(&row.correlator);
                if taken.is_some_and(|holder| *holder != key(row)) {
                    return Err(StoreError::Conflict("correlator"));
                }
                ("arming", self.armings.get(&key(row)).map(|found| found.version), row.version)
            }
            Change::LastCampaign(id) if self.last_campaign() == *id => return Ok(()),
            Change::LastCampaign(_) => return Err(StoreError::Conflict("last campaign")),
        };
        if stored.unwrap_or(0) == carried { Ok(()) } else { Err(StoreError::Conflict(what)) }
    }

    fn make(&mut self, change: Change) {
        match change {
            Change::Device(row) => {
                let row = Device { version: row.version + 1, ..*row };
                self.devices.insert(row.id.clone(), row);
            }
            Change::Campaign(row) => {
                let row = Campaign { version: row.version + 1, ..*row };
                let id = row.id;
                if self.campaigns.insert(id, row).is_none() {
                    self.created.push(id);
                }
            }
            Change::Attempt(row) => {
                let row = ArmingAttempt { version: row.version + 1, ..*row };
                self.correlators.insert(row.correlator.clone(), key(&row));
                self.armings.insert(key(&row), row);
            }
            Change::LastCampaign(_) => {}
        }
    }

    fn of_user(&self, user: &str) -> Option<&DeviceId> {
        let mut rows = self.devices.values();
        let found = rows.find(|row| row.auth.kind == AuthKind::Mac && row.auth.user == user);
        found.map(|row| &row.id)
    }

    fn last_campaign(&self) -> Option<String> {
        self.created.last().map(CampaignId::to_string)
    }

    fn latest(&self, id: CampaignId) -> BTreeMap<&DeviceId, &ArmingAttempt> {
        // Attempts of a device are in ascending order, so the last one remains.
        self.armings
            .values()
            .filter(|row| row.campaign == id)
            .map(|row| (&row.device, row))
            .collect()
    }
}

#[async_trait]
impl FleetStore for MemoryStore {
    async fn apply(&self, at: Utc, audit: Audit, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut tables = self.tables();
        changes.iter().try_for_each(|change| tables.check(change))?;
        for change in changes {
            tables.make(change);
        }
        let previous = tables.audit.last().map(|line| (line.number, line.seal));
        tables.audit.push(AuditLine::after(previous, at, audit));
        Ok(())
    }

    async fn device(&self, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        Ok(self.tables().devices.get(id).cloned())
    }

    async fn device_with_secrets(&self, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        self.device(id).await
    }

    async fn device_of_user(&self, user: &str) -> Result<Option<DeviceId>, StoreError> {
        Ok(self.tables().of_user(user).cloned())
    }

    async fn device_page(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed<Device>>, StoreError> {
        let tables = self.tables();
        let rows = tables.devices.iter().map(|(id, row)| (id.as_str().to_owned(), row.clone()));
        Ok(page(rows.skip_while(|(id, _)| after.is_some_and(|after| id.as_str() <= after)), limit))
    }

    async fn campaign(&self, id: CampaignId) -> Result<Option<Campaign>, StoreError> {
        Ok(self.tables().campaigns.get(&id).cloned())
    }

    async fn campaign_page(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed<Campaign>>, StoreError> {
        let tables = self.tables();
        let rows = tables.created.iter().filter_map(|id| tables.campaigns.get(id));
        let mut rows = rows.map(|row| (row.id.to_string(), row.clone()));
        if let Some(after) = after {
            rows.find(|(id, _)| id == after);
        }
        Ok(page(rows, limit))
    }

    async fn damaged_campaigns(&self) -> Result<Vec<DamagedCampaign>, StoreError> {
        Ok(Vec::new())
    }

    async fn campaign_versions(&self) -> Result<Vec<(CampaignId, u64)>, StoreError> {
        let tables = self.tables();
        let rows = tables.created.iter().filter_map(|id| tables.campaigns.get(id));
        Ok(rows.map(|row| (row.id, row.version)).collect())
    }

    async fn last_campaign(&self) -> Result<Option<String>, StoreError> {
        Ok(self.tables().last_campaign())
    }

    async fn campaign_devices(
        &self,
        id: CampaignId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed<CampaignDevice>>, StoreError> {
        let tables = self.tables();
        let rows = tables.latest(id).into_values().map(|attempt| {
            let device = tables.devices.get(&attempt.device);
            let row = CampaignDevice {
                attempt: attempt.clone(),
                firmware_version: device.and_then(|device| device.firmware_version.clone()),
                last_seen: device.and_then(|device| device.last_seen),
            };
            (attempt.device.as_str().to_owned(), row)
        });
        Ok(page(rows.skip_while(|(id, _)| after.is_some_and(|after| id.as_str() <= after)), limit))
    }

    async fn device_attempts(&self, id: &DeviceId) -> Result<Vec<ArmingAttempt>, StoreError> {
        let tables = self.tables();
        Ok(tables.armings.values().filter(|row| row.device == *id).cloned().collect())
    }

    async fn proved_from(&self, id: &DeviceId) -> Result<ProvedFrom, StoreError> {
        let tables = self.tables();
        let device = tables.devices.get(id);
        Ok(device.map(|device| device.auth.proved_from.clone()).unwrap_or_default())
    }

    /// The key is a function of the day: nothing in a test is random.
    async fn challenge_key(&self, day: u64) -> Result<ChallengeKey, StoreError> {
        let key = sha256(&[b"challenge key of a store in memory", &day.to_be_bytes()]);
        Ok(ChallengeKey::new(key.0))
    }

    async fn package(&self, id: CampaignId) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.tables().packages.get(&id).cloned())
    }

    async fn attempt(&self, correlator: &Correlator) -> Result<Option<ArmingAttempt>, StoreError> {
        let tables = self.tables();
        let key = tables.correlators.get(correlator);
        Ok(key.and_then(|key| tables.armings.get(key)).cloned())
    }

    async fn attempt_of_package(
        &self,
        secret: &PackageSecret,
    ) -> Result<Option<ArmingAttempt>, StoreError> {
        let tables = self.tables();
        let mut rows = tables.armings.values();
        Ok(rows.find(|row| row.package_secret.as_ref() == Some(secret)).cloned())
    }

    async fn phase_counts(&self, id: CampaignId) -> Result<PhaseCounts, StoreError> {
        let tables = self.tables();
        let mut phase_counts = PhaseCounts::new();
        for row in tables.latest(id).into_values() {
            *phase_counts.entry(row.phase).or_default() += 1;
        }
        Ok(phase_counts)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn audit_page(
        &self,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Listed<AuditLine>>, StoreError> {
        let tables = self.tables();
        let lines = tables.audit.iter().filter(|line| line.number > after);
        Ok(page(lines.map(|line| (line.number.to_string(), line.clone())), limit))
    }

    async fn audit_tail(&self, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        let tables = self.tables();
        let skipped = tables.audit.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        Ok(tables.audit.iter().skip(skipped).cloned().collect())
    }

    async fn audit_of(&self, subject: &str, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        let tables = self.tables();
        let lines = tables.audit.iter().rev().filter(|line| line.subject == subject);
        let mut lines: Vec<_> = lines.take(usize::try_from(limit).unwrap_or(0)).cloned().collect();
        lines.reverse();
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_memory_store_passes_the_store_tests() {
        crate::fleet::store_tests::run(|| async { MemoryStore::default() }).await;
    }
}
