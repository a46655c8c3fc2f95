# The minimum size of a zone: nginx -t reports one that is too small, and the smallest one works.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Cluster;
use SSE::Stage;

my $location = 'location = /s { sse_stream news; sse_replay all; }';
my @hubs = (
    ['zone 1m; max_event_size 4k;',   1],
    ['zone 1m; max_event_size 64k;',  1],
    ['zone 8m;',                      1],
    ['max_event_size 1m;',            1],
    ['zone 64m; max_event_size 4m;',  1],
    ['zone 1023k; max_event_size 1k;', 0],
    ['zone 64k; max_event_size 1k;',  0],
    ['zone 1m;',                      0],
    ['zone 4m; max_event_size 1m;',   0],
    ['max_event_size 4m;',            0],
    ['max_event_size 1024m;',         0],
);
for my $case (@hubs) {
    my ($hub, $enough) = @$case;
    my $nginx = SSE::Cluster->new(http => "sse_hub news { $hub }", server => $location);
    my ($status, $said) = $nginx->check_config;
    if ($enough) {
        is($status, 0, "'$hub' is accepted") or diag($said);
    } else {
        isnt($status, 0, "'$hub' is rejected");
        like($said, qr/\[emerg\] .*zone.* in \S+nginx\.conf:\d+/, 'the message names the zone, the file, and the line');
    }
}

my ($status, $said) = SSE::Cluster->new(http => 'sse_hub news { zone 1m; max_event_size 4k; }')->check_config;
my $size  = $status ? '1100k' : '1m';
my $stage = SSE::Stage->new(http => "sse_hub news { zone $size; max_event_size 4k; }", server => $location);
my @data  = map { "$_ " . 'x' x 3900 } 1 .. 20;
$stage->publish('news', @data);
is_deeply([$stage->replayed('/s', 'news')], \@data, 'the smallest zone holds events of the largest size');
$stage->ends_cleanly;
done_testing();
