//! Types that are generated from `schema/trust.proto`.

include!("../generated/trust.rs");
