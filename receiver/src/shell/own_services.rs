//! The guard of services that listen for this device alone.
//!
//! A descriptor of a package is written by anybody, and a redirect follows it. Both may name the
//! device itself, or a neighbour on its link, whose services trust whoever reaches them. Such an
//! address is accepted only where the URL of the DM server leads to one of the same kind, or where
//! the configuration lists the host. The resolved address counts, at the time of the connection: a
//! name may lead anywhere.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use thiserror::Error;
use ureq::{
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

/// Error of a URL that leads to the device itself, or to its link.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{host} is {kind} address, and `receiver.package_hosts` does not list it")]
pub struct OwnService {
    host: String,
    kind: Kind,
}

/// Kind of an address that other hosts cannot reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Loopback, unspecified, or of one of its interfaces.
    ThisDevice,
    /// Of the link alone.
    LinkLocal,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::ThisDevice => "the device's own",
            Self::LinkLocal => "a link-local",
        })
    }
}

impl Kind {
    /// Returns the kind of an address; `None` for one of another host.
    ///
    /// # Errors
    ///
    /// That of a `bind` to it which tells neither.
    fn of(address: IpAddr, bind: Bind) -> io::Result<Option<Self>> {
        let address = address.to_canonical();
        let is_link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => is_unicast_link_local(address),
        };
        if is_link_local {
            return Ok(Some(Self::LinkLocal));
        }
        let is_own = address.is_loopback() || address.is_unspecified() || is_own(bind(address))?;
        Ok(is_own.then_some(Self::ThisDevice))
    }
}

const fn is_unicast_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// Binds a socket to an address.
type Bind = fn(IpAddr) -> io::Result<()>;

fn bind(address: IpAddr) -> io::Result<()> {
    UdpSocket::bind(SocketAddr::new(address, 0)).map(drop)
}

/// Returns whether an interface has the address that was to be bound: no other can be. Any other
/// error, as where the descriptors are used up, tells nothing.
fn is_own(bound: io::Result<()>) -> io::Result<bool> {
    match bound {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        Err(error) => Err(error),
    }
}

/// The accepted exceptions.
#[derive(Debug, Clone, Default)]
pub struct PackageHosts {
    server: Option<Uri>,
    hosts: BTreeSet<String>,
}

impl PackageHosts {
    /// Accepts the listed hosts, and the kinds of address that the server's URL leads to.
    #[must_use]
    pub fn new(server_url: &str, hosts: &[String]) -> Self {
        let hosts = hosts.iter().map(|host| bare(host)).collect();
        Self { server: server_url.parse().ok(), hosts }
    }
}

/// Returns a host as it is compared.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase()
}

/// A resolver that returns no address of an own service.
#[derive(Debug)]
pub(super) struct GuardedResolver<R = DefaultResolver> {
    names: R,
    accepted: Arc<PackageHosts>,
    bind: Bind,
}

impl GuardedResolver {
    pub(super) fn new(accepted: Arc<PackageHosts>) -> Self {
        Self { names: DefaultResolver::default(), accepted, bind }
    }
}

impl<R: Resolver> Resolver for GuardedResolver<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.names.resolve(uri, config, timeout)?;
        let host = bare(uri.host().unwrap_or_default());
        if self.accepted.hosts.contains(&host) {
            return Ok(found);
        }
        let mut kept = self.empty();
        let mut refused = None;
        let mut undecided = None;
        // Looked up only where it matters.
        let mut server_kinds = None;
        for address in &found {
            let kind = match Kind::of(address.ip(), self.bind) {
                Ok(Some(kind)) => kind,
                Ok(None) => {
                    kept.push(*address);
                    continue;
                }
                Err(error) => {
                    undecided = Some(error);
                    continue;
                }
            };
            let kinds = server_kinds.get_or_insert_with(|| self.server_kinds(config, timeout));
            if kinds.contains(&kind) {
                kept.push(*address);
            } else {
                refused = Some(kind);
            }
        }
        if !kept.is_empty() {
            return Ok(kept);
        }
        match (undecided, refused) {
            (Some(error), _) => Err(ureq::Error::Io(error)),
            (None, Some(kind)) => Err(ureq::Error::Other(Box::new(OwnService { host, kind }))),
            (None, None) => Ok(kept),
        }
    }
}

impl<R: Resolver> GuardedResolver<R> {
    fn server_kinds(&self, config: &Config, timeout: NextTimeout) -> BTreeSet<Kind> {
        let server = self.accepted.server.as_ref();
        let found = server.and_then(|uri| self.names.resolve(uri, config, timeout).ok());
        let addresses = found.iter().flat_map(|found| found.iter());
        addresses.filter_map(|address| Kind::of(address.ip(), self.bind).ok().flatten()).collect()
    }
}

/// Returns the error if a request failed because its URL leads to an own service.
pub(super) fn own_service(error: &ureq::Error) -> Option<&OwnService> {
    let ureq::Error::Other(inner) = error else { return None };
    inner.downcast_ref()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ureq::Timeout;

    use super::*;

    /// Names and where they lead to.
    #[derive(Debug)]
    struct Names(BTreeMap<&'static str, Vec<&'static str>>);

    impl Resolver for Names {
        fn resolve(
            &self,
            uri: &Uri,
            _: &Config,
            _: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, ureq::Error> {
            let mut found = self.empty();
            let host = uri.host().unwrap();
            let known = self.0.get(host).cloned().unwrap_or_else(|| vec![host]);
            for address in known {
                let address = bare(address).parse().map_err(|_| ureq::Error::HostNotFound)?;
                found.push(SocketAddr::new(address, 80));
            }
            Ok(found)
        }
    }

    fn resolve(server: &str, hosts: &[&str], url: &str) -> Result<Vec<String>, String> {
        resolve_by(bind, server, hosts, url)
            .map_err(|error| own_service(&error).expect("an own service").to_string())
    }

    fn resolve_by(
        bind: Bind,
        server: &str,
        hosts: &[&str],
        url: &str,
    ) -> Result<Vec<String>, ureq::Error> {
        let names = Names(BTreeMap::from([
            ("rebound.example", vec!["127.0.0.1"]),
            ("mixed.example", vec!["169.254.1.1", "192.0.2.7"]),
            ("mapped.example", vec!["::ffff:127.0.0.1"]),
            ("dm.example", vec!["192.0.2.8"]),
            ("dual.example", vec!["2001:db8::9", "192.0.2.9"]),
        ]));
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let accepted = Arc::new(PackageHosts::new(server, &hosts));
        let resolver = GuardedResolver { names, accepted, bind };
        let timeout = NextTimeout {
            after: ureq::unversioned::transport::time::Duration::NotHappening,
            reason: Timeout::Resolve,
            ..NextTimeout::default()
        };
        let found = resolver.resolve(&url.parse().unwrap(), &Config::default(), timeout)?;
        Ok(found.iter().map(|address| address.ip().to_string()).collect())
    }

    #[test]
    fn an_address_of_which_nothing_is_known_is_not_followed_for_now() {
        let out_of_files: Bind = |_| Err(rustix::io::Errno::MFILE.into());
        let error = resolve_by(out_of_files, FAR, &[], "http://192.0.2.7/x").unwrap_err();
        assert!(matches!(error, ureq::Error::Io(_)), "not an own service, not another: {error}");
        let elsewhere: Bind = |_| Err(rustix::io::Errno::ADDRNOTAVAIL.into());
        let found = resolve_by(elsewhere, FAR, &[], "http://192.0.2.7/x").unwrap();
        assert_eq!(found, ["192.0.2.7"]);
        // The address of a family that the device has not is left out.
        let v4_alone: Bind = |address| {
            let errno = if address.is_ipv4() {
                rustix::io::Errno::ADDRNOTAVAIL
            } else {
                rustix::io::Errno::AFNOSUPPORT
            };
            Err(errno.into())
        };
        let found = resolve_by(v4_alone, FAR, &[], "http://dual.example/x").unwrap();
        assert_eq!(found, ["192.0.2.9"]);
    }

    const FAR: &str = "https://dm.example/dm";
    const NEAR: &str = "http://127.0.0.1:8080/dm";

    #[test]
    fn no_url_leads_to_the_device_or_its_link_whatever_its_name() {
        for url in [
            "http://127.0.0.1/x",
            "http://127.8.8.8/x",
            "http://0.0.0.0/x",
            "http://[::1]/x",
            "http://[::]/x",
            "http://[::ffff:127.0.0.1]/x",
            "http://[::ffff:169.254.1.1]/x",
            "http://169.254.169.254/x",
            "http://[fe80::1]/x",
            "http://rebound.example/x",
            "http://mapped.example/x",
        ] {
            let refused = resolve(FAR, &[], url).unwrap_err();
            assert!(refused.contains("`receiver.package_hosts`"), "{url}: {refused}");
        }
        assert_eq!(resolve(FAR, &[], "http://192.0.2.7/x"), Ok(vec!["192.0.2.7".to_owned()]));
        // What is left of a name is used.
        assert_eq!(resolve(FAR, &[], "http://mixed.example/"), Ok(vec!["192.0.2.7".to_owned()]));
    }

    #[test]
    fn the_addresses_of_the_interfaces_are_the_devices_own() {
        // The address from which this machine would reach another one; none without a network.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            let own = socket.local_addr().unwrap().ip();
            assert!(resolve(FAR, &[], &format!("http://{own}/x")).is_err(), "{own}");
        }
        assert_eq!(Kind::of("192.0.2.1".parse().unwrap(), bind).unwrap(), None);
    }

    #[test]
    fn a_server_on_the_device_and_a_listed_host_are_exceptions() {
        let found = Ok(vec!["127.0.0.1".to_owned()]);
        assert_eq!(resolve(NEAR, &[], "http://rebound.example/"), found);
        assert!(resolve(NEAR, &[], "http://169.254.1.1/").is_err(), "the other kind");
        assert!(resolve("http://169.254.1.1/dm", &[], "http://127.0.0.1/").is_err());
        assert_eq!(resolve(FAR, &["REBOUND.example."], "http://rebound.example/"), found);
        assert_eq!(resolve(FAR, &["::1"], "http://[::1]/"), Ok(vec!["::1".to_owned()]));
        assert!(resolve(FAR, &["other.example"], "http://rebound.example/").is_err());
        assert!(resolve("none", &[], "http://127.0.0.1/").is_err());
    }
}
