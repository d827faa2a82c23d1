//! Management objects in the tree. The tree finds the object of an address, checks that the node
//! exists and that the server has the right, and then calls the object.

use std::fmt;

use proto::{
    dm::{
        code::{Format, StatusCode},
        syncml::Item,
    },
    ids::Correlator,
    time::Now,
};

use super::right::Right;
use crate::dm::{ChunkPosition, ManagementBackend};

/// Kind of a node, which decides the commands that it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dm) enum Leaf {
    /// Get alone.
    Read(Format, String),
    /// Get and Replace.
    ReadWrite(Format, String),
    /// Replace alone.
    Write,
    /// Exec; Get lists the nodes below, if there are any.
    Run,
    /// A secret, which cannot be read; the object decides on writes.
    Secret,
    /// A parent of other nodes that exists even without any.
    Parent,
}

/// A management object; paths are those below its root, and empty for the root itself.
///
/// Staged writes of an object are in memory; state that has to survive a power cut goes to the
/// [`ManagementBackend`], which stores it before the session's next message.
pub(in crate::dm) trait ManagementObject: fmt::Debug + Send + Sync {
    /// Returns all nodes, apart from implicit parents.
    fn nodes(&self, device: &dyn ManagementBackend) -> Vec<(String, Leaf)>;

    /// Returns the identifier of the management object whose root lies at a path; empty elsewhere.
    fn identifier(&self, path: &str) -> &'static str;

    /// Returns the factory rights of the account's server, besides Get.
    fn rights(&self) -> &'static [Right];

    /// Drops the unused staged writes of an earlier DM session.
    fn begin_session(&mut self) {}

    /// Creates a node and its missing parents. Format `node` makes a parent, any other a leaf with
    /// data.
    fn add(
        &mut self,
        _now: Now,
        _device: &mut dyn ManagementBackend,
        _path: &str,
        _item: &Item,
    ) -> StatusCode {
        StatusCode::NOT_ALLOWED
    }

    /// Writes a node that [`Self::nodes`] marks as writable.
    fn replace(
        &mut self,
        _now: Now,
        _device: &mut dyn ManagementBackend,
        _path: &str,
        _item: &Item,
    ) -> StatusCode {
        StatusCode::NOT_ALLOWED
    }

    /// Returns the position of the first chunk of a large object for a node, if its chunks are
    /// stored.
    fn chunk_position(&self, _path: &str) -> Option<ChunkPosition> {
        None
    }

    /// Returns whether a node may be removed; all others are permanent.
    fn is_dynamic(&self, _path: &str) -> bool {
        false
    }

    /// Removes a node that is [dynamic](Self::is_dynamic), with all below it.
    fn delete(
        &mut self,
        _now: Now,
        _device: &mut dyn ManagementBackend,
        _path: &str,
    ) -> StatusCode {
        StatusCode::NOT_ALLOWED
    }

    /// Starts the operation of a [`Leaf::Run`].
    fn exec(
        &mut self,
        _now: Now,
        _device: &mut dyn ManagementBackend,
        _path: &str,
        _correlator: Option<Correlator>,
    ) -> StatusCode {
        StatusCode::NOT_ALLOWED
    }

    /// Returns whether a write to a path cannot be rolled back, so that no Atomic may hold it.
    fn cannot_roll_back(&self, _device: &dyn ManagementBackend, _path: &str) -> bool {
        false
    }

    /// Returns a copy of this object, which replaces it when an Atomic fails; [`Self::roll_back`]
    /// covers the writes from here on.
    fn checkpoint(&mut self) -> Box<dyn ManagementObject>;

    /// Rolls the writes to the backend since the checkpoint back, and returns the paths for which
    /// that failed. Staged writes need no roll-back: the checkpoint replaces this object.
    fn roll_back(&mut self, _now: Now, _device: &mut dyn ManagementBackend) -> Vec<String> {
        Vec::new()
    }
}
