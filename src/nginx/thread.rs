//! Threads beside nginx's own. None of them may call anything of nginx.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread to which no signal is delivered: nginx waits for its signals on its own thread.
pub fn spawn(name: &str, main: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    // SAFETY: signal sets are plain memory that the next call fills.
    let (mut all, mut before) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: both sets are locals. A new thread has the mask of the one that makes it.
    unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
    }
    let handle = Builder::new().name(name.to_owned()).spawn(main);
    // SAFETY: as above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    handle
}
