//! Threads beside nginx's own. They must not call any function of nginx.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread with all signals blocked, because nginx handles its signals on its own thread.
pub fn spawn(name: &str, main: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    // SAFETY: signal sets are plain data, for which zeros are valid.
    let (mut all, mut before) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: both sets are locals. A new thread inherits the mask of the thread that creates it.
    unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
    }
    let handle = Builder::new().name(name.to_owned()).spawn(main);
    // SAFETY: as above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    handle
}
