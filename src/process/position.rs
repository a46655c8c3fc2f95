//! `$sse_position`: the id from which a page resumes that is rendered now.
//!
//! nginx may evaluate a variable while a worker is in use, so this has handles of the hubs of its
//! own.

use crate::conf::Main;
use crate::hub::Hub;
use crate::nginx::log::{self, Level};
use std::cell::RefCell;

thread_local! {
    static POSITIONS: RefCell<Positions> = const { RefCell::new(Positions::NONE) };
}

/// The hubs of this process.
struct Positions {
    /// Their names and handles.
    hubs: Vec<(String, Hub)>,
    /// The index of the hub of locations that name none.
    default: Option<usize>,
}

impl Positions {
    const NONE: Positions = Positions { hubs: Vec::new(), default: None };

    /// Returns the hub whose name a variable ends with, in lower case; or the default hub.
    fn hub(&self, name: Option<&[u8]>) -> Option<&(String, Hub)> {
        match name {
            Some(name) => {
                self.hubs.iter().find(|(hub, _)| hub.as_bytes().eq_ignore_ascii_case(name))
            }
            None => self.hubs.get(self.default?),
        }
    }
}

/// Opens the hubs. Called when a worker process starts.
pub(super) fn start(main: &Main) {
    let open = |conf: &crate::conf::HubConf| {
        let hub = Hub::attach(conf.resources()?.region.clone()).ok()?;
        Some((conf.name.clone(), hub))
    };
    let hubs: Vec<_> = main.hubs.iter().filter_map(|conf| open(conf)).collect();
    let default = main.resolve(None, "").ok().and_then(|number| {
        let name = &main.hubs.get(number)?.name;
        hubs.iter().position(|(hub, _)| hub == name)
    });
    POSITIONS.set(Positions { hubs, default });
}

/// Returns the position of the hub with this name in lower case, or of the default hub. `None` if
/// there is no such hub, or if its lock was not available.
pub fn position(name: Option<&[u8]>) -> Option<Vec<u8>> {
    POSITIONS.with_borrow(|positions| {
        let (name, hub) = positions.hub(name)?;
        match hub.resume_point() {
            Ok(id) => Some(id.to_string().into_bytes()),
            Err(error) => {
                let line = format_args!("sse: hub \"{name}\": $sse_position is empty: {error}");
                log::write(Level::Warn, line);
                None
            }
        }
    })
}
