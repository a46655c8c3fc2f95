//! What a location sets for the end of its connections. There are few of these and many streams, so a
//! stream keeps a number of 16 bits.

use nginx_sys::{ngx_http_core_loc_conf_t, NGX_HTTP_LINGERING_ALWAYS, NGX_HTTP_LINGERING_ON};
use std::cell::RefCell;

/// Names the limits of a stream in this process.
#[derive(Clone, Copy)]
pub(super) struct LeanSettingsKey(u16);

/// The settings of a location that a stream without a request goes by. Times are in ms.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct LeanSettings {
    pub(super) send_timeout: u32,
    pub(super) on_timeout: OnTimeout,
    pub(super) lingering: Lingering,
    /// The longest wait for more from the client (`lingering_timeout`).
    pub(super) lingering_timeout: u32,
    /// The longest time in all (`lingering_time`).
    pub(super) lingering_time: u32,
}

/// How a connection is closed whose client took nothing for too long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OnTimeout {
    /// As any other: the kernel goes on trying to send what it has.
    Close,
    /// With a reset, which leaves nothing in the kernel (`reset_timedout_connection`).
    Reset,
}

/// When what the client still sends is read before its connection is closed (`lingering_close`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lingering {
    /// Never.
    Off,
    /// If the client has sent something, or is likely to.
    On,
    /// Always.
    Always,
}

thread_local! {
    static KNOWN: RefCell<Vec<LeanSettings>> = const { RefCell::new(Vec::new()) };
}

impl LeanSettings {
    pub(super) fn from_location(location: &ngx_http_core_loc_conf_t) -> LeanSettings {
        let ms = |time: usize| u32::try_from(time).unwrap_or(u32::MAX);
        LeanSettings {
            send_timeout: ms(location.send_timeout),
            on_timeout: match location.reset_timedout_connection {
                0 => OnTimeout::Close,
                _ => OnTimeout::Reset,
            },
            lingering: match location.lingering_close as u32 {
                NGX_HTTP_LINGERING_ALWAYS => Lingering::Always,
                NGX_HTTP_LINGERING_ON => Lingering::On,
                _ => Lingering::Off,
            },
            lingering_timeout: ms(location.lingering_timeout),
            lingering_time: ms(location.lingering_time),
        }
    }

    /// Keeps the limits for as long as the process lives. `None` if there are too many different ones.
    pub(super) fn keep(self) -> Option<LeanSettingsKey> {
        KNOWN.with_borrow_mut(|known| {
            let index = known.iter().position(|other| *other == self).unwrap_or(known.len());
            let key = LeanSettingsKey(u16::try_from(index).ok()?);
            if index == known.len() {
                known.push(self);
            }
            Some(key)
        })
    }
}

impl LeanSettingsKey {
    pub(super) fn get(self) -> LeanSettings {
        KNOWN
            .with_borrow(|known| known.get(usize::from(self.0)).copied())
            .unwrap_or(LeanSettings::NONE)
    }
}

impl LeanSettings {
    /// For a key of another process; there is none.
    const NONE: LeanSettings = LeanSettings {
        send_timeout: 0,
        on_timeout: OnTimeout::Close,
        lingering: Lingering::Off,
        lingering_timeout: 0,
        lingering_time: 0,
    };
}
