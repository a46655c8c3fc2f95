//! The settings of a location that apply to lean streams after their requests have been freed. Many
//! streams share a few values of them, so a stream stores a key of 16 bits.

use nginx_sys::{ngx_http_core_loc_conf_t, NGX_HTTP_LINGERING_ALWAYS, NGX_HTTP_LINGERING_ON};
use std::cell::RefCell;

/// The key of settings in this process.
#[derive(Clone, Copy)]
pub(super) struct LeanSettingsKey(u16);

/// The settings of a location for lean streams. Times are in ms.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct LeanSettings {
    pub(super) send_timeout: u32,
    pub(super) on_timeout: OnTimeout,
    pub(super) lingering: Lingering,
    /// Maximum time to wait for more input when lingering (`lingering_timeout`).
    pub(super) lingering_timeout: u32,
    /// Maximum time to linger (`lingering_time`).
    pub(super) lingering_time: u32,
}

/// How the connection is closed after `send_timeout`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OnTimeout {
    /// Normally: the kernel continues to send what it has buffered.
    Close,
    /// With a reset, which frees the kernel's buffers (`reset_timedout_connection`).
    Reset,
}

/// When the connection of an ended stream lingers (`lingering_close`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lingering {
    /// Never.
    Off,
    /// If the client has sent something after its request, or has unread input.
    On,
    /// Always.
    Always,
}

thread_local! {
    /// All settings of this process; a key is an index.
    static KNOWN: RefCell<Vec<LeanSettings>> = const { RefCell::new(Vec::new()) };
}

impl LeanSettings {
    /// Reads the settings of nginx's core module.
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

    /// Stores the settings until the process exits. Returns `None` if there are too many different
    /// ones.
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
    /// Returns the settings.
    pub(super) fn get(self) -> LeanSettings {
        KNOWN
            .with_borrow(|known| known.get(usize::from(self.0)).copied())
            .unwrap_or(LeanSettings::NONE)
    }
}

impl LeanSettings {
    /// The value for an unknown key, which does not occur.
    const NONE: LeanSettings = LeanSettings {
        send_timeout: 0,
        on_timeout: OnTimeout::Close,
        lingering: Lingering::Off,
        lingering_timeout: 0,
        lingering_time: 0,
    };
}
