# Idempotency-Key: a repeated publish takes effect once, whichever worker receives it and however often it
# is repeated.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    workers => 4,
    http    => 'sse_hub default { history 1000; } sse_drain 0; sse_retry 50ms;',
    server  => 'location = /s { sse_stream news; }',
);
my $nginx  = $stage->cluster;
my $client = $stage->stream('/s', reconnect => 1);

my %ids = map { publish('a key', 'once')->{id} => 1 } 1 .. 20;
is(scalar keys %ids, 1, 'twenty repetitions, on any worker, return one id');
my %others = map { publish("key $_", 'each')->{id} => 1 } 1 .. 20;
is(scalar keys %others, 20, 'twenty keys return twenty ids');
isnt((keys %ids)[0], publish(undef, 'without')->{id}, 'an event without a key is always new');
is(publish('a key', 'other data')->{id}, (keys %ids)[0], 'the key decides, not the data');

# Concurrently.
my (@answers, @connections);
for my $number (1 .. 16) {
    push @connections, SSE::HTTP->new($stage->port, sub ($answer) { push @answers, $answer; return });
    $connections[-1]->send(path => '/to/news', body => 'together', headers => ['Idempotency-Key' => 'concurrent']);
}
ok(wait_for(sub { @answers == 16 }, 10), 'sixteen concurrent publishers with one key all receive a response');
my %together = map { ($_ && $_->{json} ? $_->{json}{id} : 'none') => 1 } @answers;
is(scalar keys %together, 1, 'all with the same id');
$_->drop for @connections;

# A batch.
my @first  = batch('a batch', 1 .. 50);
my @second = batch('a batch', 1 .. 50);
is(scalar @first, 50, 'a batch returns its ids');
is($second[0], $first[0], 'a repeated batch returns the same ids');

# After a reload and after a worker was killed.
my $id = publish('lasting', 'lasting')->{id};
ok($nginx->reload, 'nginx reloads');
is(publish('lasting', 'lasting')->{id}, $id, 'a key remains valid after a reload');
ok($nginx->kill_worker(($nginx->workers)[0]), 'a worker is killed');
is(publish('lasting', 'lasting')->{id}, $id, 'a key remains valid after a worker was killed');

is_deeply([$stage->seen($client, 'news')],
    ['sse.open {}', 'once', ('each') x 20, 'without', 'together', 1 .. 50, 'lasting'], 'the stream receives each event once');
$stage->ends_cleanly;
done_testing();

sub publish ($key, $data) {
    my $answer = request(port => $stage->port, path => '/to/news', body => $data,
        headers => [defined $key ? ('Idempotency-Key' => $key) : ()]);
    return $answer && $answer->{json} ? $answer->{json} : { id => 'refused' };
}

sub batch ($key, @data) {
    my $answer = request(port => $stage->port, path => '/to/news', body => join('', map { "data: $_\n\n" } @data),
        headers => ['Idempotency-Key' => $key, 'Content-Type' => 'text/event-stream']);
    return $answer && $answer->{json} ? @{ $answer->{json}{ids} // [$answer->{json}{id}] } : ();
}
