# send_timeout: a client that takes no byte for that long is closed, however many events come; one that
# takes a little now and then, and one that has nothing to take, is not.

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

# The slow one takes a mouthful every half second.
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
is(streams(), 3, 'within send_timeout all three streams are there');
ok(wait_for(sub { streams() == 2 }, 8), 'the client that takes nothing is closed, although events go on');
serve_for(2.5);
is(streams(), 2, 'the one that takes a little stays');
$writer->stop;
ok($writer->wait_idle, 'publishing went on');
$slow->resume;
my $last = $writer->last->{data};
ok(wait_for(sub { (last_of($fast) eq $last) && last_of($slow) eq $last }, 15), 'those that read have everything');
ok(!(grep { $_->events('sse.gap') } $fast, $slow), 'without a gap');
is($quiet->{state}, 'open', 'a stream on which nothing happens for longer than send_timeout stays');
$stage->publish('nothing', 'something');
ok($quiet->wait_data('something'), 'and still gets its events');

$stage->ends_cleanly;
done_testing();

sub streams { return $stage->subscribers('news') }

sub last_of ($client) {
    my @data = grep { $_ ne '' } $client->data;
    return $data[-1] // '';
}
