package SSE::EventIds;

# Event ids: decimal numbers joined by "-" that increase within a hub. Clients must treat them as opaque;
# tests check their order.

use v5.36;
use Exporter qw(import);

our @EXPORT_OK = qw(by_id is_id);

sub is_id ($id) { return $id =~ /\A\d+(?:-\d+){1,3}\z/ && length $id <= 73 }

# Compares by time, then sequence number, then position.
sub by_id ($left, $right) {
    my @left  = split /-/, $left;
    my @right = split /-/, $right;
    return $left[0] <=> $right[0] || $left[1] <=> $right[1] || ($left[3] // 0) <=> ($right[3] // 0);
}

1;
