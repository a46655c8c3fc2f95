# Administrative requests that take many iterations of the event loop: long listings, and deleting a channel
# with many events.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;

my $guarded = has_module('http_auth_request') ? 'location = /guarded { auth_request /check; sse_status; }' : '';

# In a zone of this size, scanning the table takes about twenty iterations, with or without channels.
my $stage = SSE::Stage->new(
    http   => 'sse_hub default { zone 64m; history 100000; } sse_retry 100ms; sse_open_event off;',
    server => <<"EOF_CONFIG",
        location ~ ^/s/(.+)\$ { sse_stream \$1; }
        location = /admin    { sse_admin; }
        $guarded
        location = /check    { internal; sse_admin; }
        location = /status   { sse_status; }
EOF_CONFIG
);

# A listing that matches nothing scans the whole table.
my $none = '/admin?prefix=none';
my $answer = admin('?prefix=none');
is($answer->{status}, 200, 'a long listing is answered');
is_deeply($answer->{json}{channels}, [], 'with the matching channels');
is($answer->{header}{'cache-control'}[0], 'no-store', 'with its headers');
is(admin('?prefix=none', method => 'HEAD')->{body}, '', 'HEAD returns no body');
is(request(port => $stage->port, path => '/guarded?prefix=none')->{status}, 200, 'it works in a subrequest') if $guarded;

my $pipelined = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $stage->port) or die "connect: $!";
my $get = "GET $none HTTP/1.1\r\nHost: a\r\n";
print {$pipelined} "$get\r\n$get\r\n${get}Connection: close\r\n\r\n";
my $all = do { local $/ = undef; <$pipelined> };
is(scalar(() = $all =~ m{HTTP/1\.1 200 OK\r$}mg), 3, 'three pipelined requests are all answered');

for (1 .. 100) {
    my $leaving = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $stage->port) or die "connect: $!";
    print {$leaving} "$get\r\n";
    close $leaving;
}
# Until a hundred listings are through, the hub may be busy.
ok(wait_for(sub { admin('?prefix=none')->{status} == 200 }, 20), 'clients that disconnect before the response do no harm');

# A channel with many events is deleted at once.
my ($first) = map { $stage->batch('long', 1 .. 1000) } 1 .. 20;
my $kept = ($stage->batch('other', 1 .. 1000))[-1];
my $stream = $stage->stream('/s/other');
is(admin('?channel=long')->{json}{events}, 20_000, 'the channel has many events');
my $used = $stage->status->{zone_used_bytes};
my $gone = admin('?channel=long', method => 'DELETE')->{json};
is($gone->{events}, 20_000, 'all events are deleted');
is(admin('?channel=long')->{json}{events}, 0, 'they are gone at once');
is($stage->status->{retained_events}, 1000, 'the figures show it');
$stage->publish('long', 'after');
my $back = $stage->stream('/s/long', headers => ['Last-Event-ID' => $first]);
$back->wait_data('after');
is_deeply([$back->types], ['sse.gap', 'message'], 'a returning client receives a gap event and the later event');
$stage->publish('other', 'on');
$stream->wait_data('on');
pass('other streams are served meanwhile');
ok(wait_for(sub { $stage->status->{zone_used_bytes} < $used - 20_000 * 100 }), 'the memory of the events becomes free');
my $rest = $stage->stream('/s/other', headers => ['Last-Event-ID' => $kept]);
$rest->wait_data('on');
is_deeply([$rest->data], ['on'], 'other events are retained');

# Listings that are in progress when nginx quits.
$_->close for $stream, $back, $rest;
ok(wait_for(sub { $stage->status->{subscribers} == 0 }), 'all streams have ended');
my @waiting = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $stage->port) or die "connect: $!" } 1 .. 200;
print {$_} "$get\r\n" for @waiting;
# All of them have been accepted when a later connection is answered.
request(port => $stage->port, path => '/status');
kill 'QUIT', $stage->cluster->pid;
my @listings = map { my $socket = $_; local $/ = undef; scalar(<$socket>) // '' } @waiting;
is(scalar(grep { !m{\AHTTP/1\.1 (?:200|503) .*\}\s*\z}s } @listings), 0, 'listings that are in progress when nginx quits are answered');
$stage->ends_cleanly;
done_testing();

sub admin ($query = '', %options) { return request(port => $stage->port, %options, path => "/admin$query") }

