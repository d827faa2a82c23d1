//! What a device is to be told of its policy, and what it answered.

use std::{collections::BTreeMap, fmt, str::FromStr};

use proto::{
    dm::{code::StatusCode, policy::PolicyNode},
    time::Utc,
    wire::WireError,
};
use serde::{Deserialize, Serialize};

/// Octets of a value; none that a device knows is near that.
pub const MAX_VALUE: usize = 64;

/// A node and its value: `NODE=VALUE`. What the value means is the device's to judge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    node: PolicyNode,
    value: String,
}

impl Setting {
    /// Takes a value that can be sent.
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

impl fmt::Display for Setting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.node, self.value)
    }
}

impl FromStr for Setting {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        let (node, value) =
            text.split_once('=').ok_or_else(|| WireError::invalid("policy", text, "NODE=VALUE"))?;
        Self::new(node.parse()?, value)
    }
}

/// A value that the desk has decided on, and how the device took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The value.
    pub value: String,
    /// The status code of the device's answer; absent until it has answered.
    pub answer: Option<u16>,
    /// When it was decided, or answered.
    pub updated: Utc,
}

impl Order {
    /// Tells whether the device's next DM session tells it: until it answers, other than that it
    /// is to be asked later.
    #[must_use]
    pub fn is_owed(&self) -> bool {
        self.answer.is_none_or(|code| StatusCode(code).is_retry_later())
    }
}

/// The latest order of each node; most devices have none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyOrders(BTreeMap<PolicyNode, Order>);

impl PolicyOrders {
    /// Tells whether the desk has never decided anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all orders.
    pub fn iter(&self) -> impl Iterator<Item = (PolicyNode, &Order)> {
        self.0.iter().map(|(node, order)| (*node, order))
    }

    /// Returns what the device's next DM session tells it.
    pub fn owed(&self) -> impl Iterator<Item = Setting> {
        let owed = self.iter().filter(|(_, order)| order.is_owed());
        owed.map(|(node, order)| Setting { node, value: order.value.clone() })
    }

    /// Orders a value, in place of any before.
    pub fn order(&mut self, setting: Setting, now: Utc) {
        let order = Order { value: setting.value, answer: None, updated: now };
        self.0.insert(setting.node, order);
    }

    /// Takes an order back that the device has not answered.
    pub fn take_back(&mut self, node: PolicyNode) {
        self.0.retain(|other, order| *other != node || !order.is_owed());
    }

    /// Keeps what a device answered. What the desk has decided meanwhile stands.
    pub fn answered(&mut self, setting: &Setting, code: StatusCode, now: Utc) {
        let order = self.0.get_mut(&setting.node).filter(|order| order.value == setting.value);
        if let Some(order) = order.filter(|order| order.is_owed()) {
            order.answer = Some(code.0);
            order.updated = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(orders: &PolicyOrders) -> Vec<String> {
        orders.owed().map(|setting| setting.to_string()).collect()
    }

    #[test]
    fn a_setting_names_a_node_of_the_list_and_its_value_is_a_line() {
        let setting: Setting = "install=on-command".parse().unwrap();
        assert_eq!((setting.node(), setting.value()), (PolicyNode::Install, "on-command"));
        assert_eq!("thermal=a=b".parse::<Setting>().unwrap().value(), "a=b");
        let long = format!("call={}", "x".repeat(MAX_VALUE + 1));
        for wrong in ["install", "colour=red", "=x", "call=", "call=a\nb", &long] {
            assert!(wrong.parse::<Setting>().is_err(), "{wrong}");
        }
        let refused = "colour=red".parse::<Setting>().unwrap_err().to_string();
        assert!(refused.contains("install or consent"), "{refused}");
    }

    #[test]
    fn an_order_is_owed_until_the_device_answers_it_and_an_answer_to_another_value_is_not() {
        let mut orders = PolicyOrders::default();
        let [first, second]: [Setting; 2] =
            ["call=ignore", "call=suspend"].map(|text| text.parse().unwrap());
        orders.order(first.clone(), Utc(1));
        orders.answered(&first, StatusCode::UNAVAILABLE, Utc(2));
        assert_eq!(owed(&orders), ["call=ignore"]);
        orders.order(second.clone(), Utc(3));
        orders.answered(&first, StatusCode::OK, Utc(4));
        assert_eq!(owed(&orders), ["call=suspend"]);
        orders.answered(&second, StatusCode::FORBIDDEN, Utc(5));
        orders.answered(&second, StatusCode::OK, Utc(6));
        orders.take_back(PolicyNode::Call);
        let (_, kept) = orders.iter().next().unwrap();
        assert_eq!((kept.answer, kept.updated), (Some(403), Utc(5)));
        orders.order(second, Utc(7));
        orders.take_back(PolicyNode::Call);
        assert!(orders.is_empty());
    }
}
