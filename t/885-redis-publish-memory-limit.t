# While Redis stands still, the publishes that wait for it take a bounded amount of memory: more are refused
# with 503 at once, and when Redis goes on, so does publishing.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::Stage;

my $redis = SSE::Redis->start;
my $stage = SSE::Stage->new(
    workers => 1,
    http    => "client_max_body_size 8m; client_body_buffer_size 8m;"
        . " sse_hub default { zone 256m; max_event_size 8m; redis @{[ $redis->url ]}; }",
);
ok(wait_for(sub { publish('before')->{status} == 201 }), 'Redis is there');

# 84 MB, of which 64 MiB may wait.
$redis->pause;
my (@answers, @connections);
my $body = 'x' x 7_000_000;
for (1 .. 12) {
    my $connection = SSE::HTTP->new($stage->port, sub ($answer) { push @answers, $answer; return });
    $connection->send(method => 'POST', path => '/to/news', body => $body);
    push @connections, $connection;
}
my $busy = 'too many publishes, or too large ones, are waiting for Redis';
my @busy;
ok(wait_for(sub { @answers == 12 }, 30), 'every publish is answered');
@busy = grep { ($_->{json}{error} // '') eq $busy } @answers;
cmp_ok(scalar @busy, '>=', 3, 'those for which there is no room are refused');
is_deeply([grep { $_->{status} != 503 || !$_->{header}{'retry-after'} } @busy], [], 'with 503, and told when to try again');
is(scalar(grep { $_->{status} == 201 } @answers), 0, 'and none is answered as if it were published');
$redis->resume;
ok(wait_for(sub { publish('after')->{status} == 201 }), 'when Redis goes on, so does publishing');
$_->drop for @connections;

$stage->ends_cleanly;
done_testing();

sub publish ($data) { return request(port => $stage->port, path => '/to/news', body => $data) }
