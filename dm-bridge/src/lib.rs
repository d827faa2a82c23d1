//! The management server: enrolment, arming, campaigns, results.
