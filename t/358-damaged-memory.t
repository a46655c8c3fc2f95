# The memory of a hub is damaged, as by a bug elsewhere in nginx or by faulty hardware. No worker exits because of it
# or accesses other memory, other hubs lose nothing, and a reload starts the damaged hub empty and says so.

use v5.36;
no warnings qw(portable);    # numbers of 64 bits
use FindBin;
use lib "$FindBin::Bin/lib";
use Fcntl qw(O_RDWR SEEK_SET);
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Stage;

# Words of the header (src/hub/memory/layout.rs), and values that no hub has.
my @damages = (
    ['the version',                                       0,  0],
    ['the number of blocks',                              2,  1 << 40],
    ['the number of slots',                               3,  0xffffffffffffffff],
    ['the list of free blocks',                           24, 0xfffffffffffffff0],
    ['the first block that was never used',               25, 0x7fffffff],
);
my $MAGIC  = 0x5353_4568_7562_0000;
my $COUNTS = qr/\[crit\].*hub "default" starts empty because its memory was damaged/;

my $stage = SSE::Stage->new(
    http => 'sse_retry 100ms; sse_drain 200ms; sse_hub default { zone 1m; max_event_size 4k; } sse_hub other { zone 2m; max_event_size 4k; }',
    server => <<'EOF_CONFIG',
        location = /s        { sse_stream news; }
        location = /other    { sse_stream news hub=other; }
        location = /to-other { sse_publish news hub=other; }
        location = /status   { sse_status; }
EOF_CONFIG
);
my $nginx  = $stage->cluster;
my $number = 0;
my @sent;
$nginx->allow(qr/\[alert\] .*sse: panic: /, qr/panicked at src\/hub\//);
my @others = map { $stage->stream('/other', reconnect => 1, reconnect_within => 0.2) } 1 .. 3;
my $client = $stage->stream('/s', reconnect => 1, reconnect_within => 0.2);

my $count = 0;
for my $case (@damages) {
    my ($what, $word, $value) = @$case;
    ok(wait_for(sub { !grep { !$_->is_open } $client, @others }), 'clients are connected');
    is(publish('/to/news', "before $number"), 201, 'the hub works');
    ok($client->wait_data("before $number"), 'its events arrive');
    my @workers = $nginx->workers;
    damage($workers[0], $word, $value);

    my %statuses = map { (publish('/to/news', "during $number") => 1) } 1 .. 6;
    ok(!grep({ !/\A(?:201|500|503|507)\z/ } keys %statuses), "$what is damaged: a publish is answered (@{[sort keys %statuses]})");
    my $another = SSE::Client->new(port => $stage->port, path => '/s');
    ok(wait_for(sub { $another->{state} ne 'connecting' && $another->{state} ne 'waiting' }), 'and so is a new client');
    $another->close;
    is_deeply([$nginx->workers], \@workers, 'no worker exits');
    push @sent, "other $number";
    is(publish('/to-other', $sent[-1]), 201, 'the other hub works');
    ok(wait_for(sub { !grep { "@{[$_->data]}" ne "@sent" } @others }), 'its clients receive each event once');

    # A worker that starts now does not use the damaged hub, and serves the other one.
    ok($nginx->kill_worker($workers[1]), 'a killed worker is replaced');
    ok(wait_for(sub { !grep { !$_->is_open } @others }), 'clients of the other hub are connected');
    push @sent, "other $number, again";
    is(publish('/to-other', $sent[-1]), 201, 'the other hub works');

    ok($nginx->reload, 'nginx reloads');
    ok($nginx->wait_old_workers_gone(20), 'the old workers exit');
    is(scalar $nginx->wait_lines($COUNTS, ++$count), $count, 'the hub starts empty, with one line in the error log');
    ok($nginx->reload, 'nginx reloads again');
    is(scalar $nginx->wait_lines($COUNTS, $count), $count, 'and keeps the hub');
    ok(wait_for(sub { $client->is_open }, 20), 'its client is connected');
    is(publish('/to/news', "after $number"), 201, 'the hub works');
    ok($client->wait_data("after $number", 20), 'its events arrive');
    ok(wait_for(sub { !grep { "@{[$_->data]}" ne "@sent" } @others }), 'the clients of the other hub have received each event once');
    is(scalar(map { $_->events('sse.gap') } @others), 0, 'without a gap event');
    $number++;
}
# nginx's own header before the hub: the end of the zone (ngx_slab_pool_t), which nginx itself does not need any more.
ok(wait_for(sub { $client->is_open }), 'the client is connected');
my ($memory, $mapped) = hub_of(($nginx->workers)[0]);
my $end_at = $mapped->{start} + 96;
is(read_word($memory, $end_at), $mapped->{end}, "nginx's header has the end of the zone");
for my $end ($mapped->{start}, $mapped->{end} + (1 << 30)) {
    sysseek $memory, $end_at, SEEK_SET;
    syswrite($memory, pack 'Q', $end) == 8 or die "memory: $!";
    ok($nginx->reload, 'nginx reloads with another end there');
    ok($nginx->wait_old_workers_gone(20), 'the old workers exit');
    ($memory) = hub_of(($nginx->workers)[0]);
    is(publish('/to/news', "end $end"), 201, 'the hub works');
    ok($client->wait_data("end $end", 20), 'its events arrive');
}
is(scalar $nginx->wait_lines($COUNTS, $count), $count, 'and it was not started again');
is(scalar($client->events('sse.gap')), $count, 'its client has missed nothing since');

cmp_ok(scalar(() = $nginx->error_log =~ /sse: panic: /g), '<', 200, 'the error log is not flooded');
$stage->ends_cleanly;
done_testing();

# The status of a publish request; 0 without a response.
sub publish ($path, $data) {
    my $answer = request(port => $stage->port, path => $path, body => $data);
    return $answer ? $answer->{status} : 0;
}

# Sets a word in the zone of the hub "default".
sub damage ($pid, $word, $value) {
    my ($memory, $mapped) = hub_of($pid);
    sysseek $memory, $mapped->{hub} + 8 * $word, SEEK_SET;
    syswrite($memory, pack 'Q', $value) == 8 or die "/proc/$pid/mem: $!";
    return;
}

# The memory of a worker, and where in it the hub "default" is mapped, the only one of this size with a hub.
sub hub_of ($pid) {
    sysopen my $memory, "/proc/$pid/mem", O_RDWR or die "/proc/$pid/mem: $!";
    for my $line (split /\n/, SSE::Cluster::slurp("/proc/$pid/maps")) {
        my ($start, $end) = $line =~ m{\A([0-9a-f]+)-([0-9a-f]+) rw-s .*/dev/zero} or next;
        ($start, $end) = (hex $start, hex $end);
        next if $end - $start != 1 << 20;
        # The hub begins at one of the first pages, after nginx's own structures.
        for my $page (0 .. 15) {
            my $at = $start + $page * 4096;
            next if (read_word($memory, $at) & ~0xffff) != $MAGIC;
            return ($memory, { start => $start, end => $end, hub => $at });
        }
    }
    die 'the hub was not found';
}

sub read_word ($memory, $at) {
    sysseek $memory, $at, SEEK_SET;
    sysread $memory, my $bytes, 8;
    return unpack 'Q', $bytes;
}
