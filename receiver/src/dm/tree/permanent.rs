//! The permanent nodes: DevInfo and DevDetail.

use proto::dm::{
    code::Format,
    nodes::device as names,
    uri::{MAX_DEPTH, MAX_SEGMENT_LENGTH, MAX_TOTAL_LENGTH},
};

use super::{Nodes, management_object::Leaf};
use crate::dm::{DeviceView, Settings};

/// Returns the leaves of DevInfo.
pub(super) fn info(settings: &Settings) -> [(&'static str, &str); 5] {
    let identity = &settings.identity;
    [
        (names::ID, identity.device_id.as_str()),
        (names::MANUFACTURER, &identity.manufacturer),
        (names::MODEL, &identity.model),
        (names::DM_VERSION, env!("CARGO_PKG_VERSION")),
        (names::LANGUAGE, &identity.language),
    ]
}

pub(super) fn nodes(settings: &Settings, view: &DeviceView) -> Nodes {
    let mut nodes = Nodes::new();
    for (uri, value) in info(settings) {
        read(&mut nodes, uri, value);
    }
    let identity = &settings.identity;
    read(&mut nodes, "./DevDetail/DevTyp", &identity.device_type);
    read(&mut nodes, "./DevDetail/OEM", &identity.oem);
    read(&mut nodes, names::FIRMWARE_VERSION, &view.firmware_version);
    read(&mut nodes, "./DevDetail/SwV", env!("CARGO_PKG_VERSION"));
    read(&mut nodes, "./DevDetail/HwV", &identity.hardware_version);
    read(&mut nodes, "./DevDetail/URI/MaxDepth", &MAX_DEPTH.to_string());
    read(&mut nodes, "./DevDetail/URI/MaxTotLen", &MAX_TOTAL_LENGTH.to_string());
    read(&mut nodes, "./DevDetail/URI/MaxSegLen", &MAX_SEGMENT_LENGTH.to_string());
    let large_objects = Leaf::Read(Format::Bool, "true".to_owned());
    nodes.insert(names::LARGE_OBJECTS.to_owned(), large_objects);
    nodes
}

fn read(nodes: &mut Nodes, uri: &str, value: &str) {
    nodes.insert(uri.to_owned(), Leaf::Read(Format::Chr, value.to_owned()));
}
