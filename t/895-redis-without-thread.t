# Where the thread for Redis could not be started, publishing is refused at once, whatever becomes of the
# answer: the request is ended after its handler has returned, and once.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::HTTP2;
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(free_port has_module);
use SSE::Stage;

# The size of a thread's stack, in bytes, as Rust's library takes it from the environment: more than there
# are addresses.
my $http2 = has_module('http_v2');
my $stage = SSE::Stage->new(
    workers => 1,
    main    => 'env RUST_MIN_STACK=4611686018427387904;',
    http    => "sse_hub default { redis redis://127.0.0.1:@{[ free_port() ]}; }"
        . ($http2 ? ' server { listen 127.0.0.1:%%PORT_h2c%% http2; location /to/ { sse_publish news; } }' : ''),
);
my $nginx = $stage->cluster;
my ($worker) = $nginx->workers;
ok(scalar $nginx->wait_lines(qr/\[crit\] .*the thread for Redis did not start/), 'the error log says that there is no thread');

my $answer = publish();
is($answer->{status}, 503, 'a publish is refused');
is_deeply($answer->{json}, { error => 'Redis is not reachable' }, 'the answer says why');
is($answer->{header}{'retry-after'}[0], 1, 'and when to try again');

# Clients that are gone when the answer is sent: with the body behind the header, and in a packet of its own.
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
    is(publish()->{status}, 503, 'clients that are gone do no harm');
}
if ($http2) {
    my $connection = SSE::HTTP2->new(port => $nginx->port('h2c'));
    my $answered   = $connection->request('/to/news', body => 'x');
    ok($connection->wait_ended($answered), 'HTTP/2: a publish is refused');
    is($answered->{status}, 503, 'HTTP/2: with 503');
    $nginx->pause($worker);
    $connection->request('/to/news', body => 'x') for 1 .. 20;
    wait_for(sub { $connection->{sending} eq '' });
    $connection->reset;
    $nginx->resume($worker);
    is(publish()->{status}, 503, 'HTTP/2: a client that is gone does no harm');
}
cmp_ok(refusals() - $before, '>=', 40, 'their publishes were handled');
is_deeply([$nginx->workers], [$worker], 'the worker lives');

$stage->ends_cleanly;
done_testing();

sub publish { return request(port => $stage->port, path => '/to/news', body => 'x') }

# What was refused, as the error log has it.
sub refusals { return scalar(() = $nginx->error_log =~ /not published to "news"/g) }
