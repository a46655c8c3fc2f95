//! Redis Cluster: finds the node that holds the hub's slot.

use std::time::Duration;

use ::redis::{cmd, ErrorKind, RedisError, ServerErrorKind, Value};

use super::super::address::{Address, Host};
use super::error::in_time;
use super::node::{self, NodeAddress};
use super::seeds::{first_link, share};
use super::{Bounds, Kind, Link, LinkError, Pushes, WORDS};

/// Connects to the master of the slot of `hub_key`. Queries each seed until one names a node that
/// is a master itself.
pub(super) async fn connect(
    address: &Address,
    seeds: &[Host],
    hub_key: &[u8],
    pushes: Option<Pushes>,
    bounds: &Bounds,
) -> Result<Link, LinkError> {
    let limit = share(seeds.len());
    let connect_through = async |seed: &Host| {
        let host = in_time(limit, &seed.to_string(), query(address, seed, limit, hub_key)).await?;
        node::master(address, &NodeAddress::Host(host), pushes.clone(), bounds).await
    };
    first_link(seeds, connect_through, "the URL names no node").await
}

async fn query(
    address: &Address,
    seed: &Host,
    limit: Duration,
    hub_key: &[u8],
) -> Result<Host, LinkError> {
    let peer = seed.to_string();
    let of = |error: RedisError| match error.kind() {
        ErrorKind::Server(ServerErrorKind::ResponseError) => {
            LinkError::new(Kind::Other, format!("{peer} is not part of a cluster"))
        }
        _ => LinkError::from_error(&peer, &error),
    };
    let login = address.login.as_ref();
    let place = NodeAddress::Host(seed.clone());
    let bounds = Bounds::for_values(WORDS);
    let (mut connection, _driver) =
        node::open(&place, address.tls, login, 0, limit, None, &bounds).await?;
    let (mut slot, mut slots) = (cmd("CLUSTER"), cmd("CLUSTER"));
    let slot: i64 =
        slot.arg("KEYSLOT").arg(hub_key).query_async(&mut connection).await.map_err(of)?;
    let slots: Value = slots.arg("SLOTS").query_async(&mut connection).await.map_err(of)?;
    owner(&slots, slot, &seed.name).ok_or_else(|| {
        LinkError::new(Kind::NotReady, format!("{peer} has no node for the hub's slot"))
    })
}

/// Returns the master of `slot` in a reply to CLUSTER SLOTS. A node that does not know its own name
/// has the address of the one that replied, `seed`.
fn owner(slots: &Value, slot: i64, seed: &str) -> Option<Host> {
    let Value::Array(ranges) = slots else {
        return None;
    };
    let node = ranges.iter().find_map(|range| match range {
        Value::Array(range) => match &range[..] {
            [Value::Int(first), Value::Int(last), Value::Array(node), ..]
                if (*first..=*last).contains(&slot) =>
            {
                Some(node)
            }
            _ => None,
        },
        _ => None,
    })?;
    let [name, Value::Int(port), ..] = &node[..] else {
        return None;
    };
    let name = match name {
        Value::BulkString(name) => String::from_utf8(name.clone()).ok()?,
        Value::SimpleString(name) => name.clone(),
        Value::Nil => String::new(),
        _ => return None,
    };
    let name = if matches!(&*name, "" | "?") { seed.to_string() } else { name };
    Some(Host { name, port: (*port).try_into().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: Value, port: i64) -> Value {
        Value::Array(vec![name, Value::Int(port), Value::BulkString(b"id".to_vec())])
    }

    fn range(first: i64, last: i64, nodes: Vec<Value>) -> Value {
        let mut range = vec![Value::Int(first), Value::Int(last)];
        range.extend(nodes);
        Value::Array(range)
    }

    #[test]
    fn the_owner_of_a_slot_is_the_first_node_of_its_range() {
        let name = |name: &str| Value::BulkString(name.into());
        let slots = Value::Array(vec![
            range(0, 99, vec![node(name("10.0.0.1"), 1), node(name("10.0.0.2"), 2)]),
            range(100, 199, vec![node(Value::Nil, 3)]),
            range(200, 299, vec![node(name(""), 4)]),
            range(300, 399, vec![node(name("a"), 70000)]),
            range(400, 499, vec![]),
        ]);
        let owner = |slot| owner(&slots, slot, "seed").map(|host| host.to_string());
        assert_eq!(owner(99).as_deref(), Some("10.0.0.1:1"));
        assert_eq!(owner(100).as_deref(), Some("seed:3"));
        assert_eq!(owner(299).as_deref(), Some("seed:4"));
        assert_eq!(owner(300), None);
        assert_eq!(owner(400), None);
        assert_eq!(owner(500), None);
    }

    #[test]
    fn an_answer_that_is_none_has_no_owner() {
        assert_eq!(owner(&Value::Nil, 1, "seed"), None);
        assert_eq!(owner(&Value::Array(vec![Value::Nil]), 1, "seed"), None);
    }

    #[test]
    fn both_ends_of_a_range_and_a_port_of_16_bits_belong_to_a_node() {
        let name = || Value::SimpleString("a".into());
        let of = |port, slot| {
            let slots = Value::Array(vec![range(100, 199, vec![node(name(), port)])]);
            owner(&slots, slot, "seed").map(|host| host.port)
        };
        assert_eq!([99, 100, 199, 200].map(|slot| of(7, slot)), [None, Some(7), Some(7), None]);
        assert_eq!([-1, 65_535, 65_536].map(|port| of(port, 100)), [None, Some(65_535), None]);
        let unknown = Value::BulkString(b"?".to_vec());
        let slots = |name| Value::Array(vec![range(0, 9, vec![node(name, 7)])]);
        let host = |name| owner(&slots(name), 0, "seed").map(|host| host.name);
        assert_eq!(host(unknown).as_deref(), Some("seed"));
        assert_eq!(host(name()).as_deref(), Some("a"));
        assert_eq!(host(Value::Int(1)), None);
        assert_eq!(host(Value::BulkString(vec![0xff])), None);
    }
}
