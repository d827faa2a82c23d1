//! The signed documents of a package, read as anybody may read them.

use std::{fs, path::Path};

use anyhow::Context as _;
use proto::{
    ids::CampaignId,
    trust::{Campaign, Manifest, PlannedObject, Root},
};
use receiver::store::ObjectLayout;

/// Parameters of the one object of a package.
#[derive(Debug, Clone)]
pub struct Documents {
    /// Id of the campaign.
    pub campaign: CampaignId,
    /// The object as the campaign airs it.
    pub object: PlannedObject,
}

impl Documents {
    /// Reads `manifest.env` and `campaign.env` of a package folder.
    ///
    /// # Errors
    ///
    /// When a file is missing, or is not signed as `root` requires.
    pub fn read(package: &Path, root: &Path) -> anyhow::Result<Self> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
        let root = Root::from_factory(&read(root)?)?;
        let manifest = Manifest::verify(&root, &read(&package.join("manifest.env"))?)?;
        let campaign = Campaign::verify(&root, &read(&package.join("campaign.env"))?)?;
        let objects = campaign.planned_objects(&manifest)?;
        let object = *objects.first().context("the campaign has no object")?;
        Ok(Self { campaign: campaign.id, object })
    }

    /// Returns how a device stores the object.
    pub fn layout(&self) -> ObjectLayout {
        ObjectLayout::new(self.object.object_key, self.object.stored_sha256, self.object.oti)
    }
}
