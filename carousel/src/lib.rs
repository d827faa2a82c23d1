//! The image server: packages, plans, the FLUTE sender.
