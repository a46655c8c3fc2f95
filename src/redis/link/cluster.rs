//! Redis Cluster: which node holds the hub's slot.

use super::super::address::{Address, Host};
use super::{Kind, Link, LinkError, Pushes};

pub(super) async fn connect(
    _address: &Address,
    _seeds: &[Host],
    _hub_key: &[u8],
    _pushes: Option<Pushes>,
) -> Result<Link, LinkError> {
    Err(LinkError::new(Kind::Other, "Redis Cluster is not there yet".into()))
}
