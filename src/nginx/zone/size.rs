//! Computes the size of a zone for any page size.

/// Returns the size in bytes of a zone that has at least `room` bytes in whole free pages of `page`
/// bytes.
pub fn size_for(room: usize, page: usize) -> usize {
    /// Upper bound of the size of a page's entry in the slab's table.
    const ENTRY: usize = 32;
    let pages = room.div_ceil(page);
    // The slab's header is smaller than a page, and rounding loses up to a page at both ends.
    (pages * (page + ENTRY) + 4 * page).next_multiple_of(page)
}

#[cfg(test)]
mod tests {
    use super::size_for;

    /// Returns the bytes in free pages of a new zone, as computed by ngx_slab_init.
    fn free_bytes(zone: usize, page: usize) -> usize {
        const POOL: usize = 200;
        const PAGE_ENTRY: usize = 24;
        const STATS_ENTRY: usize = 32;
        const MIN_SHIFT: usize = 3;
        let slots = page.trailing_zeros() as usize - MIN_SHIFT;
        let table = POOL + slots * (PAGE_ENTRY + STATS_ENTRY);
        let pages = (zone - table) / (page + PAGE_ENTRY);
        let start = (table + pages * PAGE_ENTRY).next_multiple_of(page);
        pages.min((zone - start) / page) * page
    }

    #[test]
    fn a_zone_has_room_with_pages_of_any_size() {
        for page in [4 << 10, 8 << 10, 16 << 10, 64 << 10] {
            for room in (0..200).map(|i| 1 + i * 12_345).chain([1 << 20, 32 << 20, 1 << 30]) {
                let zone = size_for(room, page);
                assert_eq!(zone % page, 0);
                assert!(free_bytes(zone, page) >= room, "{room} bytes, pages of {page}: {zone}");
            }
        }
    }

    #[test]
    fn a_zone_is_hardly_larger_than_what_it_has_room_for() {
        assert!(size_for(32 << 20, 4096) < (32 << 20) + (512 << 10));
        assert!(size_for(32 << 20, 65_536) < (32 << 20) + (512 << 10));
    }
}
