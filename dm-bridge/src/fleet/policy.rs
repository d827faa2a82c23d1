//! The desired policy of a device: values for the nodes of `Ext/Broadcast/Policy`.

use std::{collections::BTreeMap, fmt, str::FromStr};

use proto::{
    dm::{code::StatusCode, policy::PolicyNode},
    time::Utc,
    wire::WireError,
};
use serde::{Deserialize, Serialize};

/// Longest value, in octets; no defined value is near that.
pub const MAX_VALUE: usize = 64;

/// A node and its value: `NODE=VALUE`. The device validates the value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeValue {
    node: PolicyNode,
    value: String,
}

impl NodeValue {
    /// Returns a value that can be sent.
    ///
    /// # Errors
    ///
    /// [`WireError::Invalid`] for a value that is empty, too long or no line of text.
    pub fn new(node: PolicyNode, value: &str) -> Result<Self, WireError> {
        let is_line = (1..=MAX_VALUE).contains(&value.len()) && !value.contains(char::is_control);
        if !is_line {
            return Err(WireError::invalid("policy value", value, "1 to 64 octets of one line"));
        }
        Ok(Self { node, value: value.to_owned() })
    }

    /// Returns the node.
    #[must_use]
    pub const fn node(&self) -> PolicyNode {
        self.node
    }

    /// Returns the value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for NodeValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.node, self.value)
    }
}

impl FromStr for NodeValue {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        let (node, value) =
            text.split_once('=').ok_or_else(|| WireError::invalid("policy", text, "NODE=VALUE"))?;
        Self::new(node.parse()?, value)
    }
}

/// A value that an operator has set, and the status that the device returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySetting {
    /// The value.
    pub value: String,
    /// Status code that the device returned; absent until then.
    pub status: Option<u16>,
    /// Time of the setting, or of its status.
    pub updated: Utc,
}

impl PolicySetting {
    /// Returns whether the next DM session sends it: until the device returns a status other than
    /// one that requires a retry.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.status.is_none_or(|code| StatusCode(code).is_retry_later())
    }
}

/// The latest setting of each node; most devices have none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DesiredPolicy(BTreeMap<PolicyNode, PolicySetting>);

impl DesiredPolicy {
    /// Returns whether no node was ever set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all settings.
    pub fn iter(&self) -> impl Iterator<Item = (PolicyNode, &PolicySetting)> {
        self.0.iter().map(|(node, setting)| (*node, setting))
    }

    /// Returns the values that the next DM session sends.
    pub fn pending(&self) -> impl Iterator<Item = NodeValue> {
        let pending = self.iter().filter(|(_, setting)| setting.is_pending());
        pending.map(|(node, setting)| NodeValue { node, value: setting.value.clone() })
    }

    /// Sets a value, in place of any before.
    pub fn set(&mut self, value: NodeValue, now: Utc) {
        let setting = PolicySetting { value: value.value, status: None, updated: now };
        self.0.insert(value.node, setting);
    }

    /// Cancels a setting that is pending.
    pub fn cancel(&mut self, node: PolicyNode) {
        self.0.retain(|other, setting| *other != node || !setting.is_pending());
    }

    /// Stores the status of a value. A value that was set meanwhile stays pending.
    pub fn record_status(&mut self, sent: &NodeValue, code: StatusCode, now: Utc) {
        let setting = self.0.get_mut(&sent.node).filter(|setting| setting.value == sent.value);
        if let Some(setting) = setting.filter(|setting| setting.is_pending()) {
            setting.status = Some(code.0);
            setting.updated = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(policy: &DesiredPolicy) -> Vec<String> {
        policy.pending().map(|setting| setting.to_string()).collect()
    }

    #[test]
    fn a_setting_names_a_node_of_the_list_and_its_value_is_a_line() {
        let setting: NodeValue = "install=on-command".parse().unwrap();
        assert_eq!((setting.node(), setting.value()), (PolicyNode::Install, "on-command"));
        assert_eq!("thermal=a=b".parse::<NodeValue>().unwrap().value(), "a=b");
        let long = format!("call={}", "x".repeat(MAX_VALUE + 1));
        for wrong in ["install", "colour=red", "=x", "call=", "call=a\nb", &long] {
            assert!(wrong.parse::<NodeValue>().is_err(), "{wrong}");
        }
        let refused = "colour=red".parse::<NodeValue>().unwrap_err().to_string();
        assert!(refused.contains("`install` or `consent`"), "{refused}");
    }

    #[test]
    fn a_value_is_pending_until_its_own_status_arrives() {
        let mut policy = DesiredPolicy::default();
        let [first, second]: [NodeValue; 2] =
            ["call=ignore", "call=suspend"].map(|text| text.parse().unwrap());
        policy.set(first.clone(), Utc(1));
        policy.record_status(&first, StatusCode::UNAVAILABLE, Utc(2));
        assert_eq!(pending(&policy), ["call=ignore"]);
        policy.set(second.clone(), Utc(3));
        policy.record_status(&first, StatusCode::OK, Utc(4));
        assert_eq!(pending(&policy), ["call=suspend"]);
        policy.record_status(&second, StatusCode::FORBIDDEN, Utc(5));
        policy.record_status(&second, StatusCode::OK, Utc(6));
        policy.cancel(PolicyNode::Call);
        let (_, kept) = policy.iter().next().unwrap();
        assert_eq!((kept.status, kept.updated), (Some(403), Utc(5)));
        policy.set(second, Utc(7));
        policy.cancel(PolicyNode::Call);
        assert!(policy.is_empty());
    }
}
