//! Messages between dm-bridge and carousel.
