//! Two network namespaces and a link between them that loses packets.

use std::{
    fmt,
    io::Write as _,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio, id},
};

use anyhow::{Context as _, anyhow};

use crate::lab::options::Percent;

/// One end of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    name: &'static str,
    last_octet: u8,
}

/// Namespace of the sender.
pub(super) const HERE: End = End { name: "a", last_octet: 1 };
/// Namespace of the listener, in which packets are lost.
pub(super) const THERE: End = End { name: "b", last_octet: 2 };

impl End {
    /// Returns its address on the link.
    pub(super) const fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.last_octet)
    }

    /// Returns the namespace: two runs at a time do not meet.
    fn namespace(self) -> String {
        format!("fumospan-{}-{}", id(), self.name)
    }

    fn device(self) -> String {
        format!("span{}", self.name)
    }
}

/// This machine has no namespaces, or no packet filter, to give.
#[derive(Debug)]
pub struct Unavailable(String);

impl fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "no lossy link can be made here: {}", self.0)
    }
}

impl std::error::Error for Unavailable {}

/// The link; it and its namespaces go when it is dropped.
#[derive(Debug)]
pub(super) struct Link(());

impl Link {
    /// Makes the link.
    pub(super) fn new(loss: Percent) -> anyhow::Result<Self> {
        let link = Self(());
        link.set_up(loss).map_err(|error| Unavailable(format!("{error:#}")))?;
        Ok(link)
    }

    fn set_up(&self, loss: Percent) -> anyhow::Result<()> {
        for end in [HERE, THERE] {
            call("ip", &["netns", "add", &end.namespace()], "")?;
        }
        let (here, there) = (HERE.namespace(), THERE.namespace());
        let link = [HERE.device(), THERE.device()];
        let [from, to] = [&*link[0], &*link[1]];
        let pair = ["link", "add", from, "netns", &here, "type", "veth"];
        call("ip", &[&pair[..], &["peer", "name", to, "netns", &there]].concat(), "")?;
        for end in [HERE, THERE] {
            let (namespace, device) = (end.namespace(), end.device());
            let address = format!("{}/24", end.address());
            call("ip", &["-n", &namespace, "addr", "add", &address, "dev", &device], "")?;
            call("ip", &["-n", &namespace, "link", "set", &device, "up"], "")?;
        }
        // Tenths of a percent; the dropped and the passed are counted.
        let lost = (loss.0 * 10.0).round();
        let rules = format!(
            "table ip span {{\n chain in {{\n type filter hook input priority 0;\n \
             ip daddr 224.0.0.0/4 udp dport 1-65535 numgen random mod 1000 < {lost} counter drop\n \
             ip daddr 224.0.0.0/4 udp dport 1-65535 counter\n }}\n}}\n"
        );
        call("ip", &["netns", "exec", &there, "nft", "-f", "-"], &rules)?;
        Ok(())
    }

    /// Returns a command that runs `program` at one end.
    pub(super) fn command(&self, end: End, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &end.namespace()]).arg(program);
        command
    }

    /// Returns how many datagrams were dropped, and how many were let through.
    pub(super) fn counters(&self) -> anyhow::Result<(u64, u64)> {
        let there = THERE.namespace();
        let rules = call("ip", &["netns", "exec", &there, "nft", "list", "ruleset"], "")?;
        let mut counts = rules.lines().filter_map(packets_of);
        let mut next = || counts.next().context("a rule has a counter");
        Ok((next()?, next()?))
    }

    /// Returns how many datagrams found their socket's buffer full.
    pub(super) fn overruns(&self) -> anyhow::Result<u64> {
        let there = THERE.namespace();
        let text = call("ip", &["netns", "exec", &there, "cat", "/proc/net/snmp"], "")?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, numbers) = lines.next().zip(lines.next()).context("UDP is counted")?;
        let mut pairs = names.split(' ').zip(numbers.split(' '));
        let found = pairs.find(|(name, _)| *name == "RcvbufErrors").context("overruns are counted");
        Ok(found?.1.parse()?)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for end in [HERE, THERE] {
            // One that was never made cannot be removed; the error has no reader.
            drop(call("ip", &["netns", "del", &end.namespace()], ""));
        }
    }
}

/// Reads the number of `counter packets N bytes M`.
fn packets_of(rule: &str) -> Option<u64> {
    let (_, tail) = rule.split_once("counter packets ")?;
    tail.split(' ').next()?.parse().ok()
}

fn call(program: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {program}"))?;
    child.stdin.take().into_iter().try_for_each(|mut pipe| pipe.write_all(input.as_bytes()))?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(anyhow!("`{program} {}`: {}", arguments.join(" "), said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_says_how_many_packets_it_saw() {
        let rule = "ip daddr 224.0.0.0/4 counter packets 204 bytes 291312 drop";
        assert_eq!(packets_of(rule), Some(204));
        assert_eq!(packets_of("chain in {"), None);
    }
}
