# If the Redis thread could not be started, publishes are rejected at once, and their requests are finalized
# exactly once, after the handler has returned.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::HTTP2;
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(free_port has_module);
use SSE::Stage;

# RUST_MIN_STACK is the stack size of threads in bytes: larger than the address space, so that no thread can
# be started.
my $http2 = has_module('http_v2');
my $stage = SSE::Stage->new(
    workers => 1,
    main    => 'env RUST_MIN_STACK=4611686018427387904;',
    http    => "sse_hub default { redis redis://127.0.0.1:@{[ free_port() ]}; }"
        . ($http2 ? ' server { listen 127.0.0.1:%%PORT_h2c%% http2; location /to/ { sse_publish news; } }' : ''),
);
my $nginx = $stage->cluster;
my ($worker) = $nginx->workers;
ok(scalar $nginx->wait_lines(qr/\[crit\] .*the thread for Redis did not start/), 'the error log has a line about the thread');

my $answer = publish();
is($answer->{status}, 503, 'a publish is rejected');
is_deeply($answer->{json}, { error => 'Redis is not reachable' }, 'the response has the reason');
is($answer->{header}{'retry-after'}[0], 1, 'the response has Retry-After');

# Clients that disconnect before the response is sent, with the body in the packet of the header and in a
# separate one.
my $head   = "POST /to/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n";
my @ways   = (["${head}gone"], [$head, 'gone']);
my $before = refusals();
for my $pieces (@ways) {
    my ($first, @rest) = @$pieces;
    $nginx->pause($worker) if !@rest;
    my @clients = map { SSE::Client->new(port => $stage->port, raw_request => $first) } 1 .. 20;
    wait_for(sub { !grep { $_->{sending} ne '' } @clients });
    if (@rest) {
        publish();    # nginx has seen the headers before
        $nginx->pause($worker);
    }
    for my $client (@clients) {
        syswrite $client->{socket}, $_ for @rest;
        $client->reset;
    }
    $nginx->resume($worker);
    is(publish()->{status}, 503, 'clients that disconnect do no harm');
}
if ($http2) {
    my $connection = SSE::HTTP2->new(port => $nginx->port('h2c'));
    my $answered   = $connection->request('/to/news', body => 'x');
    ok($connection->wait_ended($answered), 'HTTP/2: a publish is rejected');
    is($answered->{status}, 503, 'HTTP/2: with 503');
    $nginx->pause($worker);
    $connection->request('/to/news', body => 'x') for 1 .. 20;
    wait_for(sub { $connection->{sending} eq '' });
    $connection->reset;
    $nginx->resume($worker);
    is(publish()->{status}, 503, 'HTTP/2: a client that disconnects does no harm');
}
cmp_ok(refusals() - $before, '>=', 40, 'the publishes of these clients were handled');
is_deeply([$nginx->workers], [$worker], 'the worker is running');

$stage->ends_cleanly;
done_testing();

sub publish { return request(port => $stage->port, path => '/to/news', body => 'x') }

# The number of rejected publishes, from the error log.
sub refusals { return scalar(() = $nginx->error_log =~ /not published to "news"/g) }
