# Clients that send their requests very slowly, or never to the end: they are no subscribers, nginx closes their
# connections after its timeouts, and other clients receive every event once meanwhile.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(after serve_for wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http   => 'client_header_timeout 2s; client_body_timeout 2s; reset_timedout_connection on;',
    server => <<'EOF_CONFIG',
        location = /s      { sse_stream news; }
        location = /lean   { sse_stream news; sse_lean on; }
        location = /status { sse_status; }
EOF_CONFIG
);
my $nginx   = $stage->cluster;
my @workers = $nginx->workers;
my @steady  = map { $stage->stream($_) } ('/s') x 3, ('/lean') x 3;
my $before  = descriptors();

# One byte of the request every 100 ms: 40 in the header of a stream's request, 20 in the body of a publish, and
# 20 in the body of a stream's request, which nginx accepts as a stream at once.
my $get   = "GET /s HTTP/1.1\r\nHost: localhost\r\nX-Slow: " . 'x' x 1000 . "\r\n\r\n";
my $post  = "POST /to/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n" . 'x' x 1000;
my @slow  = ((map { slow_client($get, 10) } 1 .. 40), (map { slow_client($post, 80) } 1 .. 20));
my $writer = SSE::Publisher->new(port => $stage->port, path => '/to/news');
$writer->stream(50, sub ($number) { $number });

ok(wait_for(sub { $writer->accepted > 20 }), 'publishing continues beside slow requests');
is($stage->status->{subscribers}, @steady, 'a request that is not complete is no subscriber');
ok(wait_for(sub { !grep { $_->{state} !~ /ended|failed/ } @slow[0 .. 39] }, 10), 'nginx closes connections whose header does not arrive in time');
# Each byte of a body starts client_body_timeout anew, so these clients have to stop.
$_->{is_silent} = 1 for @slow;
ok(wait_for(sub { !grep { $_->{state} !~ /ended|failed/ } @slow }, 10), 'and connections whose body stops arriving');

$writer->stop;
ok($writer->wait_idle, 'every publish receives a response');
my @all = map { $_->{data} } $writer->accepted;
ok(wait_for(sub { !grep { $_->data < @all } @steady }), 'other clients receive all events');
is(scalar(grep { "@{[$_->data]}" ne "@all" } @steady), 0, 'once and in order, and none of an incomplete publish');
$writer->drop;
ok(wait_for(sub { descriptors() <= $before }), 'no connection is left behind');
is_deeply([$nginx->workers], \@workers, 'no worker has exited');
$stage->ends_cleanly;
done_testing();

# A client that sends its first bytes at once and then one byte every 100 ms.
sub slow_client ($request, $first) {
    my $client = SSE::Client->new(port => $stage->port, raw_request => substr $request, 0, $first);
    my $at     = $first;
    my $next;
    $next = sub {
        return undef $next if !$client->{socket} || $client->{is_silent} || $at >= length $request;
        $client->{sending} .= substr $request, $at++, 1;
        SSE::Loop::want_write($client->{fd}, 1);
        after(0.1, $next);
    };
    after(0.1, $next);
    return $client;
}

sub descriptors {
    my $sum = 0;
    $sum += $nginx->descriptors($_) for @workers;
    return $sum;
}
