//! The file from which the module was loaded. If it is replaced, a reload of nginx does not load
//! the new one: dlopen(3) recognizes a library that is already open by its path. A copy with
//! another path would be loaded, but not used: nginx opens libraries with RTLD_GLOBAL, so the first
//! one's symbols take precedence.

use std::fs;

/// How the kernel marks files that have no name any more (proc_pid_maps(5)).
const DELETED: &str = " (deleted)";

/// Returns the path of the module's file if that has been replaced or removed since it was loaded.
pub fn replaced() -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    file_at(&maps, replaced as *const () as usize)?.strip_suffix(DELETED).map(str::to_owned)
}

/// Returns the name of the file that is mapped at an address.
fn file_at(maps: &str, address: usize) -> Option<&str> {
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        // After the range: permissions, offset, device, inode, and the name.
        let name = rest.splitn(5, ' ').nth(4).map(str::trim_start);
        name.filter(|_| (start..end).contains(&address))
    })
}
