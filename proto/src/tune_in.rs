//! The `fumocast:` URL and the window: what arming writes on a device.
