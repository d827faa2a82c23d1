//! FEC parameters, block partitioning and the codecs.
