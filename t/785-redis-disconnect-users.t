# DELETE of sse_admin with a user, in a hub that is connected to Redis: the user is disconnected from every nginx, also
# from one that is not connected at that moment, and its tokens are revoked everywhere.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::FaultProxy;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;
use SSE::Token qw(token $SECRET);

for my $source (qw(pubsub stream)) {
    subtest "with redis_source $source" => sub { with_source($source) };
}
done_testing();

sub with_source ($source) {
    my $redis = SSE::Redis->start;
    my $proxy = SSE::FaultProxy->start(to => $redis->port);
    my $start = sub ($server) {
        return SSE::RedisStage->new(
            redis   => $server->url,
            hub     => "redis_source $source;",
            workers => 2,
            http    => 'sse_drain 100ms; sse_jwt_key %%DIR%%/secret secret;',
            server  => <<'EOF_SERVER',
                location = /admin { sse_admin; }
                location ~ ^/as/(.+)$ { sse_user $1; sse_stream news; }
                location = /jwt { sse_jwt bearer; sse_stream news; }
EOF_SERVER
            files => { secret => $SECRET },
        );
    };
    my ($one, $two) = map { $start->($_) } $redis, $proxy;
    my @both = ($one, $two);

    # Every nginx.
    my @alice = map { my $nginx = $_; map { $nginx->stream('/as/alice') } 1 .. 4 } @both;
    my @bob   = map { $_->stream('/as/bob') } @both;
    my @open  = map { $_->stream('/on/news') } @both;
    is(disconnect($one, 'alice')->{status}, 202, 'a user is disconnected');
    ok(wait_for(sub { !grep { $_->{state} ne 'ended' } @alice }, 10), 'all streams of the user end, on both nginx servers');
    ok(!(grep { !$_->is_open } @bob, @open), 'and no others');
    my @again = map { $_->stream('/as/alice') } @both;
    serve_for(2.5);
    ok(!(grep { !$_->is_open } @again), 'the user can return');
    ok($_->cluster->wait_lines(qr/sse: user "alice" of hub "default" disconnected/), 'it is logged') for $one;

    # One that is not connected at that moment.
    $proxy->refuse;
    $proxy->cut;
    ok(wait_for(sub { $two->state ne 'up' }, 15), 'one nginx loses its connection');
    is(disconnect($two, 'alice')->{status}, 503, 'it cannot disconnect a user');
    is(disconnect($one, 'alice')->{status}, 202, 'another one can');
    ok(wait_for(sub { $again[0]{state} eq 'ended' }, 10), 'there, the stream ends at once');
    ok($again[1]->is_open, 'and not where there is no connection');
    $proxy->pass;
    ok(wait_for(sub { $again[1]{state} eq 'ended' }, 20), 'but as soon as there is one again');
    ok(!(grep { !$_->is_open } @bob, @open), 'no other streams end');

    # The stream of disconnected users was deleted.
    is($redis->must('DEL', 'sse:{sse}:users'), 1, 'the stream of disconnected users is deleted in Redis');
    ok(wait_for(sub { !grep { $_->{state} ne 'ended' } @bob }, 10), 'the streams of all users end');
    ok(!(grep { !$_->is_open } @open), 'and not those without a user');
    my @carol = map { $_->stream('/as/carol') } @both;
    is(disconnect($two, 'carol')->{status}, 202, 'the next user is disconnected');
    ok(wait_for(sub { !grep { $_->{state} ne 'ended' } @carol }, 10), 'everywhere');

    # Revoked tokens.
    my %old = (Authorization => 'Bearer ' . token({ sub => 'dave', iat => time - 10 }));
    my @dave = map { $_->stream('/jwt', headers => [%old]) } @both;
    my $revoked = disconnect($one, 'dave', '&revoke=1h');
    is($revoked->{status}, 202, 'tokens are revoked');
    ok(wait_for(sub { !grep { $_->{state} ne 'ended' } @dave }, 10), 'streams of the user end everywhere');
    is(status($_, %old), 401, 'older tokens are refused everywhere') for @both;
    my $shorter = disconnect($two, 'dave', '&revoke=1m');
    is($shorter->{json}{revoked_until}, $revoked->{json}{revoked_until}, 'a shorter revocation does not end earlier');
    is(status($_, Authorization => 'Bearer ' . token({ sub => 'dave', iat => time + 2 })), 200, 'new ones are accepted') for @both;
    my $third = $start->($redis);
    ok(wait_for(sub { status($third, %old) == 401 }, 10), 'a new nginx knows the revocation, too');
    $_->reload for map { $_->cluster } @both;
    is(status($_, %old), 401, 'a reload changes nothing') for @both;

    $_->close for @open;
    $_->ends_cleanly for @both, $third;
    return;
}

sub disconnect ($nginx, $user, $more = '') {
    return request(port => $nginx->port, method => 'DELETE', path => "/admin?user=$user$more");
}

sub status ($nginx, %headers) {
    my $client = SSE::Client->new(port => $nginx->port, path => '/jwt', headers => [%headers]);
    wait_for(sub { $client->{status} || $client->{state} !~ /waiting|connecting/ }, 10);
    $client->close;
    return $client->{status};
}
