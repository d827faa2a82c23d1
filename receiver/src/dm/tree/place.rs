//! Places: management objects that hang in the tree. The tree finds the place that an address
//! belongs to, checks that the node is there and that the server has the right, and lets the place
//! do the rest.

use std::fmt;

use proto::{
    dm::{
        code::{Format, StatusCode},
        syncml::Item,
    },
    ids::Correlator,
    time::Now,
};

use super::acl::Right;
use crate::dm::{Device, Piece};

/// What a node lets the server do. The tree asks for it before it acts.
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
    /// A secret, which nobody reads; whether it may be written, the place says.
    Secret,
    /// A parent of other nodes that is there even while it has none.
    Parent,
}

/// A management object; paths are those below its root, and empty for the root itself.
///
/// What a place stages is in memory, and lasts as long as the place likes; what has to outlive a
/// power cut goes to the [`Device`], which keeps it before the session's next message.
pub(in crate::dm) trait Place: fmt::Debug + Send + Sync {
    /// Returns all nodes at this moment, apart from mere parents of others.
    fn nodes(&self, device: &dyn Device) -> Vec<(String, Leaf)>;

    /// Returns the identifier of the management object whose root lies at a path; empty elsewhere.
    fn identifier(&self, path: &str) -> &'static str;

    /// Returns what the account's server may do here by the list of the factory, besides Get.
    fn rights(&self) -> &'static [Right];

    /// Forgets what an earlier DM session staged and did not use.
    fn begin_session(&mut self) {}

    /// Creates a node that is not there, and those above it that are missing. The item says what
    /// the node is: Format `node` makes a parent, all else has data.
    fn add(
        &mut self,
        _now: Now,
        _device: &mut dyn Device,
        _path: &str,
        _item: &Item,
    ) -> StatusCode {
        StatusCode::NOT_ALLOWED
    }

    /// Writes a node that [`Self::nodes`] says may be written.
    fn replace(
        &mut self,
        _now: Now,
        _device: &mut dyn Device,
        _path: &str,
        _item: &Item,
    ) -> StatusCode {
        StatusCode::NOT_ALLOWED
    }

    /// Returns what the first piece is of an object that is written to a node, where pieces of it
    /// are kept.
    fn piece(&self, _path: &str) -> Option<Piece> {
        None
    }

    /// Tells whether a node may be removed; all others are permanent.
    fn is_dynamic(&self, _path: &str) -> bool {
        false
    }

    /// Removes a node that is [dynamic](Self::is_dynamic), with all below it.
    fn delete(&mut self, _now: Now, _device: &mut dyn Device, _path: &str) -> StatusCode {
        StatusCode::NOT_ALLOWED
    }

    /// Starts what a [`Leaf::Run`] stands for.
    fn exec(
        &mut self,
        _now: Now,
        _device: &mut dyn Device,
        _path: &str,
        _correlator: Option<Correlator>,
    ) -> StatusCode {
        StatusCode::NOT_ALLOWED
    }

    /// Tells whether a write at a path has an effect that cannot be taken back, so that no Atomic
    /// may hold it.
    fn is_irrevocable(&self, _device: &dyn Device, _path: &str) -> bool {
        false
    }

    /// Returns the place as it is, to be put back when an Atomic fails; from here on
    /// [`Self::take_back`] is counted.
    fn checkpoint(&mut self) -> Box<dyn Place>;

    /// Takes back what the device was told since the checkpoint, and returns the paths of what
    /// stays. What is staged in memory goes by itself: the checkpoint takes the place of this one.
    fn take_back(&mut self, _now: Now, _device: &mut dyn Device) -> Vec<String> {
        Vec::new()
    }
}
