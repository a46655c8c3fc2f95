# send_timeout: a client that reads nothing for that long is disconnected, however many events are
# published. A client that reads slowly, or to which nothing is sent, is not.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(after serve_for wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http   => 'send_timeout 2s; sse_heartbeat off; sse_hub default { history 500; }',
    listen => ' sndbuf=32k',
    server => <<'EOF_CONFIG',
        location = /s     { sse_stream news; }
        location = /quiet { sse_stream nothing; }
EOF_CONFIG
);

my $stuck = $stage->stream('/s', receive_buffer => 8192);
my $slow  = $stage->stream('/s', receive_buffer => 8192);
my $fast  = $stage->stream('/s');
my $quiet = $stage->stream('/quiet');
wait_for(sub { $stage->subscribers('nothing') == 1 });
$_->pause for $stuck, $slow;

# The slow client reads a little every half second.
my $sip;
$sip = sub {
    return if !$slow->is_open;
    $slow->on_readable;
    after(0.5, $sip);
};
$sip->();

my $writer = SSE::Publisher->new(port => $stage->port, path => '/to/news');
$writer->stream(100, sub ($number) { "$number " . 'x' x 2000 });
serve_for(1.2);
is(streams(), 3, 'all three streams are open within send_timeout');
ok(wait_for(sub { streams() == 2 }, 8), 'the client that reads nothing is disconnected, although events are published');
serve_for(2.5);
is(streams(), 2, 'the client that reads slowly stays connected');
$writer->stop;
ok($writer->wait_idle, 'all publishes succeed');
$slow->resume;
my $last = $writer->last->{data};
ok(wait_for(sub { (last_of($fast) eq $last) && last_of($slow) eq $last }, 15), 'the clients that read have received everything');
ok(!(grep { $_->events('sse.gap') } $fast, $slow), 'without a gap event');
is($quiet->{state}, 'open', 'a stream that is silent for longer than send_timeout stays open');
$stage->publish('nothing', 'something');
ok($quiet->wait_data('something'), 'and still receives events');

$stage->ends_cleanly;
done_testing();

sub streams { return $stage->subscribers('news') }

sub last_of ($client) {
    my @data = grep { $_ ne '' } $client->data;
    return $data[-1] // '';
}
