//! Limits failed authentications per IP address, so that one host cannot try many device ids.
//!
//! A success of the same device clears its failures (its nonce was stale); otherwise devices behind
//! one address would lock each other out.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use proto::time::Mono;

use crate::dm::auth::FAILURE_SPAN;

/// Failures of one address within [`FAILURE_SPAN`] that lock it out.
pub const MAX_ADDRESS_FAILURES: u32 = 30;

/// Addresses stored at once.
const MAX_ADDRESSES: usize = 4_096;

/// Counter of failed authentications by IP address.
#[derive(Debug, Default)]
pub struct AuthFailureLimiter(BTreeMap<IpAddr, Failures>);

#[derive(Debug)]
struct Failures {
    since: Mono,
    /// Failures by claimed device id.
    by_claim: BTreeMap<String, u32>,
}

impl Failures {
    fn is_over(&self, now: Mono) -> bool {
        now.since(self.since) >= FAILURE_SPAN
    }

    fn count(&self) -> u32 {
        self.by_claim.values().sum()
    }
}

impl AuthFailureLimiter {
    /// Returns the remaining lockout of an address.
    // spec: security 7.2 (failures are counted by address too)
    #[must_use]
    pub fn wait(&self, now: Mono, address: IpAddr) -> Option<Duration> {
        let failures = self.0.get(&address).filter(|it| !it.is_over(now))?;
        (failures.count() >= MAX_ADDRESS_FAILURES)
            .then(|| FAILURE_SPAN.saturating_sub(now.since(failures.since)))
    }

    /// Counts one failure.
    pub fn record_failure(&mut self, now: Mono, address: IpAddr, claim: &str) {
        if self.0.len() >= MAX_ADDRESSES && !self.0.contains_key(&address) {
            self.make_room(now);
        }
        let fresh = || Failures { since: now, by_claim: BTreeMap::new() };
        let failures = self.0.entry(address).or_insert_with(fresh);
        if failures.is_over(now) {
            *failures = fresh();
        }
        if failures.count() < MAX_ADDRESS_FAILURES {
            *failures.by_claim.entry(claim.to_owned()).or_default() += 1;
        }
    }

    /// Clears the failures of a device that has authenticated.
    pub fn clear(&mut self, address: IpAddr, claim: &str) {
        if let Some(failures) = self.0.get_mut(&address) {
            failures.by_claim.remove(claim);
            if failures.by_claim.is_empty() {
                self.0.remove(&address);
            }
        }
    }

    fn make_room(&mut self, now: Mono) {
        self.0.retain(|_, failures| !failures.is_over(now));
        if self.0.len() >= MAX_ADDRESSES {
            let oldest = self.0.iter().min_by_key(|(_, failures)| failures.since);
            if let Some(address) = oldest.map(|(address, _)| *address) {
                self.0.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn failing(claims: impl Iterator<Item = String>) -> AuthFailureLimiter {
        let mut limiter = AuthFailureLimiter::default();
        claims.for_each(|claim| limiter.record_failure(Mono(0), ADDRESS, &claim));
        limiter
    }

    // test: security 7.2 (failures are counted by address too)
    #[test]
    fn an_address_that_tries_many_device_ids_is_locked_out() {
        let claims = |count: u32| (0..count).map(|number| number.to_string());
        let limiter = failing(claims(MAX_ADDRESS_FAILURES - 1));
        assert_eq!(limiter.wait(Mono(0), ADDRESS), None);
        let mut limiter = failing(claims(MAX_ADDRESS_FAILURES));
        let later = Mono(0) + Duration::from_secs(100);
        assert_eq!(limiter.wait(later, ADDRESS), Some(Duration::from_secs(500)));
        assert_eq!(limiter.wait(later, IpAddr::from([192, 0, 2, 2])), None);
        let after = Mono(0) + FAILURE_SPAN;
        assert_eq!(limiter.wait(after, ADDRESS), None);
        limiter.record_failure(after, ADDRESS, "x");
        assert_eq!(limiter.wait(after, ADDRESS), None, "it counts anew");
    }

    #[test]
    fn failures_that_a_success_follows_do_not_count() {
        let mut limiter = AuthFailureLimiter::default();
        for number in 0..10 * MAX_ADDRESS_FAILURES {
            limiter.record_failure(Mono(0), ADDRESS, &number.to_string());
            limiter.clear(ADDRESS, &number.to_string());
        }
        assert_eq!(limiter.wait(Mono(0), ADDRESS), None);
        assert!(limiter.0.is_empty());
    }

    #[test]
    fn only_so_many_addresses_and_claims_are_stored() {
        let mut limiter = AuthFailureLimiter::default();
        for number in 0..2 * u32::try_from(MAX_ADDRESSES).unwrap() {
            let now = Mono(u64::from(number));
            limiter.record_failure(now, IpAddr::V4(number.into()), "a");
        }
        assert_eq!(limiter.0.len(), MAX_ADDRESSES);
        let limiter = failing((0..1000).map(|number| number.to_string()));
        let [failures] = limiter.0.values().collect::<Vec<_>>()[..] else { panic!() };
        assert!(failures.by_claim.len() <= 30);
    }
}
