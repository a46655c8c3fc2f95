# Redis loses everything, and publishers continue, while nginx does not read it: its clients receive a gap event,
# since events may be lost. The trouble of one channel does not concern another.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start(users => ['away on >secret ~* &* +@all', 'default on nopass ~* &* +@all']);
my $url   = $redis->url =~ s{redis://}{redis://away:secret\@}r;
my $other = SSE::RedisStage->new(redis => $redis->url);

# An event is published that nobody reads, Redis is emptied, and another one is published.
sub reset_redis ($channel) {
    $other->publish($channel, 'lost');
    $redis->must('FLUSHALL');
    $other->publish($channel, 'next');
    return;
}

sub received ($client, $last, $what) {
    ok($client->wait_data($last, 20), "$what: $last arrives") or diag(join ' ', $client->data);
    return join ' ', map { $_->{type} eq 'sse.gap' ? 'gap' : $_->{data} } grep { $_->{type} ne 'sse.open' } @{ $client->{events} };
}

{
    my $nginx  = SSE::RedisStage->new(redis => $url, workers => 1);
    my $client = $nginx->stream('/on/away');
    $other->publish('away', 'first');
    ok($client->wait_data('first'), 'nginx is connected');
    $redis->must('ACL', 'SETUSER', 'away', 'off');
    $redis->must('CLIENT', 'KILL', 'USER', 'away');
    ok(wait_for(sub { $nginx->state ne 'up' }), 'it loses its connections');
    reset_redis('away');
    $redis->must('ACL', 'SETUSER', 'away', 'on');
    is(received($client, 'next', 'away'), 'first gap next', 'a gap event precedes what Redis has now');
    $other->publish('away', 'last');
    is(received($client, 'last', 'away'), 'first gap next last', 'the stream continues');
    $nginx->ends_cleanly;
}

# The process that holds the subscription is stopped, and one of the new processes takes over.
{
    my $nginx  = SSE::RedisStage->new(redis => $redis->url, workers => 2);
    my $holder = $nginx->holder($redis);
    my @client;
    push @client, $nginx->stream('/on/stopped', reconnect => 1) while @client < 100 && !grep { $_->worker != $holder } @client;
    @client = grep { $_->worker != $holder } @client;
    ok(scalar @client, 'a stream is open in the process without the subscription');
    $other->publish('stopped', 'first');
    ok($_->wait_data('first'), 'nginx is connected') for @client;
    $nginx->cluster->pause($holder);
    ok(wait_for(sub { SSE::Cluster::slurp("/proc/$holder/stat") =~ /\) T / }), 'the process with the subscription is stopped');
    reset_redis('stopped');
    kill HUP => $nginx->cluster->pid;
    is(received($_, 'next', 'stopped'), 'first gap next', 'a gap event precedes what Redis has now') for @client;
    $nginx->cluster->resume($holder);
    $nginx->ends_cleanly;
}

# Doubtful messages: only the stream of the channel to which one with a lower id belongs is described.
{
    my $nginx  = SSE::RedisStage->new(redis => $redis->url, workers => 1);
    my @client = map { $nginx->stream("/on/$_") } qw(one two);
    $other->publish($_, "first of $_") for qw(one two);
    ok($client[0]->wait_data('first of one') && $client[1]->wait_data('first of two'), 'two channels are followed');
    my $calls = sub ($command) { $redis->must('INFO', 'commandstats') =~ /^cmdstat_\Q$command\E:calls=(\d+)/m ? $1 : 0 };
    my $forge = sub ($channel, $id) {
        my $read = $calls->('xrange');
        $redis->publish($channel, "\x01sse " . 'f' x 32 . " $id 0-0 0\nforged");
        return wait_for(sub { $calls->('xrange') > $read }, 10);
    };
    my $later = 10 * time() . '000-1';
    my $described = $calls->('xinfo|stream');
    ok($forge->('two', $later), 'a doubtful message: its stream is read');
    is($calls->('xinfo|stream'), $described, 'and not described');
    ok($forge->('one', '1-1'), 'one with a lower id on another channel: its stream is read');
    ok(wait_for(sub { $calls->('xinfo|stream') == $described + 1 }), 'and described');
    ok($forge->('two', $later), 'again one on the first channel: its stream is read');
    serve_for(0.2);
    is($calls->('xinfo|stream'), $described + 1, 'and not described');
    $other->publish($_, "last of $_") for qw(one two);
    ok($client[0]->wait_data('last of one') && $client[1]->wait_data('last of two'), 'both channels continue');
    is(scalar(map { $_->events('sse.gap') } @client), 0, 'without a gap event');
    $nginx->ends_cleanly;
}
$other->ends_cleanly;
done_testing();
