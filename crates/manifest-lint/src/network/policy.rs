//! A NetworkPolicy as parsed: what is not understood is an error, so that nothing is taken for allowed or denied by mistake.

use ipnet::IpNet;
use serde_json::Value;

use crate::look::Look as _;
use crate::object::Object;

/// One policy.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) namespace: String,
    /// The pods that it is about.
    pub(crate) pods: Value,
    /// Nothing where it says nothing about what comes in.
    pub(crate) ingress: Option<Vec<Allow>>,
    /// Nothing where it says nothing about what goes out.
    pub(crate) egress: Option<Vec<Allow>>,
}

/// Peers and ports that are let through.
#[derive(Debug, Clone)]
pub(crate) struct Allow {
    /// Anybody where there is no list.
    pub(crate) peers: Option<Vec<Peer>>,
    /// Any port where there is no list.
    pub(crate) ports: Option<Vec<PortRange>>,
}

/// Whom one item of `from` or `to` means.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// Pods by the labels of their namespace, or in that of the policy, and by their own.
    Pods { namespaces: Option<Value>, pods: Option<Value> },
    /// Addresses.
    Block { cidr: IpNet, except: Vec<IpNet> },
}

/// Ports of a protocol.
#[derive(Debug, Clone)]
pub(crate) struct PortRange {
    pub(crate) protocol: String,
    pub(crate) ports: Ports,
}

/// Which of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ports {
    All,
    /// First and last.
    Range(u16, u16),
    /// As the pod that is talked to calls it.
    Named(String),
}

// === impl Policy ===

impl Policy {
    /// # Errors
    /// What has no known form.
    pub(crate) fn parse(object: &Object) -> Result<Self, String> {
        let spec = object.value.at("spec");
        let types: Vec<_> = spec.items("policyTypes").iter().filter_map(Value::as_str).collect();
        let is_about = |direction: &str, default: bool| {
            if types.is_empty() { default } else { types.contains(&direction) }
        };
        let allowed = |rules: &str, peers: &str| {
            spec.items(rules).iter().map(|rule| Allow::parse(rule, peers)).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            namespace: object.namespace().to_owned(),
            pods: match spec.get("podSelector") {
                Some(selector) if selector.is_object() => selector.clone(),
                _ => return Err("podSelector is missing".to_owned()),
            },
            ingress: is_about("Ingress", true).then(|| allowed("ingress", "from")).transpose()?,
            egress: is_about("Egress", spec.has("egress")).then(|| allowed("egress", "to")).transpose()?,
        })
    }

    /// Selectors of peers, for whoever asks whether they match anybody: namespace and pods of each.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Peer> {
        let rules = self.ingress.iter().chain(&self.egress).flatten();
        rules.flat_map(|rule| rule.peers.iter().flatten())
    }
}

// === impl Allow ===

impl Allow {
    fn parse(rule: &Value, peers: &str) -> Result<Self, String> {
        // An empty list means the same as none.
        let list = |key: &str| Some(rule.items(key)).filter(|items| !items.is_empty());
        let peers = list(peers).map(|items| items.iter().map(Peer::parse).collect()).transpose()?;
        let ports = list("ports").map(|items| items.iter().map(PortRange::parse).collect()).transpose()?;
        Ok(Self { peers, ports })
    }
}

// === impl Peer ===

impl Peer {
    fn parse(peer: &Value) -> Result<Self, String> {
        let selector = |key: &str| peer.get(key).filter(|value| value.is_object()).cloned();
        let (namespaces, pods) = (selector("namespaceSelector"), selector("podSelector"));
        match (peer.get("ipBlock"), namespaces.is_some() || pods.is_some()) {
            (Some(block), false) => {
                let except = block.items("except").iter().map(network).collect::<Result<_, _>>()?;
                Ok(Self::Block { cidr: network(block.at("cidr"))?, except })
            }
            (None, true) => Ok(Self::Pods { namespaces, pods }),
            (Some(_), true) => Err("ipBlock stands beside selectors in one item".to_owned()),
            (None, false) => Err("an item of from or to is empty".to_owned()),
        }
    }
}

fn network(value: &Value) -> Result<IpNet, String> {
    let text = value.as_str().unwrap_or_default();
    text.parse().map_err(|_| format!("`{text}` is no address block"))
}

// === impl PortRange ===

impl PortRange {
    fn parse(port: &Value) -> Result<Self, String> {
        let protocol = match port.text("protocol") {
            "" => "TCP",
            protocol => protocol,
        };
        let number = |value: &Value| {
            let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
            number.ok_or_else(|| format!("`{value}` is no port"))
        };
        let ports = match (port.at("port"), port.at("endPort")) {
            (Value::Null, Value::Null) => Ports::All,
            (Value::String(name), Value::Null) => Ports::Named(name.clone()),
            (first, Value::Null) => Ports::Range(number(first)?, number(first)?),
            (first, last) => Ports::Range(number(first)?, number(last)?),
        };
        Ok(Self { protocol: protocol.to_owned(), ports })
    }
}
