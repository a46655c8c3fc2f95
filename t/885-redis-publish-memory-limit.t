# While Redis does not reply, the publishes that wait for it use bounded memory: further ones are rejected
# with 503 at once, and publishing continues when Redis does.

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
ok(wait_for(sub { publish('before')->{status} == 201 }), 'Redis is connected');

# 84 MB, of which 64 MiB may wait. A publish waits for 2 s from the end of its body, and a busy machine may take
# longer to transfer them, so all of them end at once.
$redis->pause;
my (@answers, @connections);
my $body = 'x' x 7_000_000;
for (1 .. 12) {
    my $connection = SSE::HTTP->new($stage->port, sub ($answer) { push @answers, $answer; return });
    $connection->send(method => 'POST', path => '/to/news', body => $body, hold_back => 1);
    push @connections, $connection;
}
ok(wait_for(sub { !grep { !$_->is_written } @connections }, 30), 'twelve bodies are sent but for their last bytes');
$_->complete for @connections;
my $busy = 'too many publishes, or too large ones, are waiting for Redis';
my @busy;
ok(wait_for(sub { @answers == 12 }, 30), 'every publish receives a response');
@busy = grep { ($_->{json}{error} // '') eq $busy } @answers;
cmp_ok(scalar @busy, '>=', 3, 'publishes above the limit are rejected');
is_deeply([grep { $_->{status} != 503 || !$_->{header}{'retry-after'} } @busy], [], 'with 503 and Retry-After');
is(scalar(grep { $_->{status} == 201 } @answers), 0, 'no other publish is acknowledged');
$redis->resume;
ok(wait_for(sub { publish('after')->{status} == 201 }), 'publishing works when Redis continues');
$_->drop for @connections;

$stage->ends_cleanly;
done_testing();

sub publish ($data) { return request(port => $stage->port, path => '/to/news', body => $data) }
