# A publisher finishes the run of a channel: what it sends, who may do it, and that it takes effect once.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use JSON::PP ();
use SSE::Client;
use SSE::HTTP qw(request);
use SSE::Loop;
use SSE::Stage;

my $stage = SSE::Stage->new(
    workers => 2,
    http    => 'sse_hub default { max_event_size 1k; } sse_drain 0;',
    server  => <<'EOF_SERVER',
        location ~ ^/run/(.+)$ { sse_publish $1 finish; }
        location ~ ^/s/(.+)$   { sse_stream $1; sse_replay all; sse_finished replay; }
        location = /admin      { sse_admin; }
        location = /status     { sse_status; }
EOF_SERVER
);
my $nginx = $stage->cluster;

# What is answered.
my $answer = finish('a?finish=1', 'last');
is($answer->{status}, 201, 'a publish that finishes is answered with 201');
is($answer->{json}{channel}, 'a', 'with the channel');
is(scalar @{ $answer->{json}{ids} }, 1, 'with the id of its event');
ok($answer->{json}{finished}, 'and that the run is finished');
is($answer->{json}{subscribers}, 0, 'and the number of streams');
like($answer->{body}, qr/\A\{"channel":"a","ids":\["[0-9-]+"\],"finished":true,"subscribers":0\}\z/, 'in this order');
is_deeply([replayed('a')], ['last'], 'the event is before the finish');

for my $case (['?finish', ''], ['?finish=1', ''], ['?event=x&finish', ''], ['?FINISH=1', ''], ['?finish=1', '', 1], ['?finish', ": only a comment\n\n", 1]) {
    my ($query, $body, $batch) = @$case;
    my $answer = finish("b$query", $body, $batch ? ('Content-Type' => 'text/event-stream') : ());
    is_deeply([$answer->{status}, $answer->{json}{ids}, !!$answer->{json}{finished}], [201, [], !!1],
        'an empty ' . ($batch ? 'batch' : 'body') . " with $query publishes no event");
}
$answer = finish('c?finish', "data: 1\n\ndata: 2\n\n", 'Content-Type' => 'text/event-stream');
is(scalar @{ $answer->{json}{ids} }, 2, 'a batch is published before the finish');
is_deeply([replayed('c')], [1, 2], 'and read up to it');
is(finish('d', '')->{status}, 201, 'without finish, an empty body is an event');
is(finish('d', '', 'Content-Type' => 'text/event-stream')->{status}, 400, 'and an empty batch is refused');

# What is refused, and takes no effect.
my $open = $stage->stream('/s/e');
for my $query ('finish=', 'finish=0', 'finish=2', 'finish=true', 'finish=1&finish=0') {
    my $answer = finish("e?$query", 'x');
    is_deeply([$answer->{status}, $answer->{json}{error}], [400, 'finish must be 1 or have no value'], "$query is refused");
}
for my $query ('finish', 'finish=1', 'finish=0', 'a=b&finish=no', 'FINISH') {
    my $answer = request(port => $stage->port, path => "/to/e?$query", body => 'x');
    is_deeply([$answer->{status}, $answer->{json}{error}], [403, 'finish is not allowed in this location'],
        "$query is refused where finishing is not allowed");
}
is(request(port => $stage->port, path => '/to/e?finished=1&unfinish=1', body => 'x')->{status}, 201, 'other arguments are not meant');
is(finish('e?finish=1', 'x' x 2000)->{status}, 413, 'an event that is too large is refused');
is(finish('e?finish=1', "data: small\n\ndata: " . 'x' x 2000 . "\n\n", 'Content-Type' => 'text/event-stream')->{status},
    413, 'so is a batch with one');
is_deeply([$stage->seen($open, 'e')], ['sse.open {}', 'x'], 'and nothing of it happens');
ok($open->is_open, 'the stream goes on');
is_deeply($open->{ends}, [], 'and has not ended');

# A key.
is(finish('f?finish', 'first', 'Idempotency-Key' => 'k')->{status}, 201, 'a run is finished with a key');
$stage->publish('f', 'of the next run');
my $again = finish('f?finish', 'first', 'Idempotency-Key' => 'k');
is_deeply([$again->{status}, !!$again->{json}{finished}], [201, !!1], 'a repetition is answered as the first time');
is_deeply([replayed('f', 'of the next run')], ['of the next run'], 'and does not end the next run');

# An administrator.
my $watching = $stage->stream('/s/g');
$stage->publish('g', 'seen');
$answer = request(port => $stage->port, path => '/admin?channel=g&only=run', method => 'DELETE');
is_deeply($answer->{json}, { channel => 'g', finished => JSON::PP::true(), streams => 1 }, 'an administrator finishes a run');
ok(SSE::Loop::wait_for(sub { @{ $watching->{ends} } }, 10), 'its stream ends');
is($watching->{ends}[0]{how}, 'clean', 'cleanly');
is_deeply([$watching->data], ['seen'], 'after it has received everything');
is(request(port => $stage->port, path => '/admin?channel=none&only=run', method => 'DELETE')->{status}, 404, 'there must be a channel');
is(request(port => $stage->port, path => '/admin?channel=g&only=x', method => 'DELETE')->{status}, 400, 'other parts are refused');

$stage->ends_cleanly;
done_testing();

sub finish ($to, $body, @headers) {
    return request(port => $stage->port, path => "/run/$to", body => $body, headers => \@headers) // {};
}

# What a new client receives: until its stream ends, or until this event.
sub replayed ($channel, $until = undef) {
    my $client = SSE::Client->new(port => $stage->port, path => "/s/$channel");
    if (defined $until) {
        $client->wait_data($until);
    } else {
        SSE::Loop::wait_for(sub { @{ $client->{ends} } }, 10);
    }
    $client->close;
    return $client->data;
}
