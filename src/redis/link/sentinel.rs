//! Sentinels: who the master is, and when it is another.

use super::super::address::{Address, Host};
use super::{Kind, Link, LinkError, Pushes};

pub(super) async fn connect(
    _address: &Address,
    _sentinels: &[Host],
    _master: &str,
    _pushes: Option<Pushes>,
) -> Result<Link, LinkError> {
    Err(LinkError::new(Kind::Other, "Sentinel is not there yet".into()))
}

pub(super) async fn moved(_address: &Address, _sentinels: &[Host], _master: &str, _current: &str) {
    std::future::pending().await
}
