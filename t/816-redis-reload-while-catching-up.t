# A reload while a channel with a large backlog catches up over a slow connection. The old process reads it to its
# end before it hands the subscription over, so that plain messages are not lost, either, and no client receives
# a gap event. If it is killed meanwhile, the durable events are complete.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::FaultProxy;
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $script = SSE::Cluster::slurp("$FindBin::Bin/../lua/publish.lua");
my $redis  = SSE::Redis->start;

for my $source (qw(pubsub stream)) {
    reload($source, 1);
    reload($source, 2);
}
killed();
done_testing();

# A nginx that is reading the backlog of channel a, clients of it, and what they are to receive.
sub reading ($source) {
    $redis->must('FLUSHALL');
    my $proxy = SSE::FaultProxy->start(to => $redis->port);
    my $far   = SSE::RedisStage->new(redis => $proxy->url, hub => "max_event_size 64k; history 500; redis_source $source;",
        http => 'sse_drain 200ms;');
    my @clients = map { $far->stream($_, reconnect => 1) } ('/on/a') x 4, ('/on/a,b') x 4;
    my @sent    = publish($source, 'plain 1', 'durable 1', 'plain 2');
    ok($_->wait_data($sent[-1]), "redis_source $source: a stream receives events") for @clients;
    $proxy->refuse;
    $proxy->cut;
    ok(wait_for(sub { $far->state ne 'up' }, 10), 'the connection is lost');
    push @sent, publish($source, map { "backlog $_" . 'x' x 60_000 } 1 .. 60);
    $proxy->rate(500_000);
    ok($far->wait_up(30), 'it is restored');
    push @sent, publish($source, 'plain 3', 'durable 2');
    my @old = $far->cluster->workers;
    return ($proxy, $far, \@clients, \@sent, @old);
}

sub reload ($source, $reloads) {
    my ($proxy, $far, $clients, $sent, @old) = reading($source);
    my $id = $clients->[0]{last_event_id};
    for my $reload (1 .. $reloads) {
        ok($far->cluster->reload, 'nginx reloads');
        push @$sent, publish($source, "plain 4 $reload", "durable 3 $reload");
    }
    cmp_ok(scalar(grep { kill 0, $_ } @old), '>', 0, 'the old process is still there');
    my $had = grep { /backlog/ } $clients->[0]->data;
    cmp_ok($had, '<', 60, "after $had of 60 events of the backlog");
    push @$sent, publish($source, 'plain 5');
    $proxy->pass;
    ok($far->cluster->wait_old_workers_gone(30), 'the channel is read, and the old process exits');
    push @$sent, publish($source, 'plain 6', 'durable 4', 'plain 7', 'the end');
    ok($_->wait_data('the end', 20), 'a stream receives the last event') for @$clients;
    my $all = join ' ', short(@$sent);
    is(join(' ', short($_->data)), $all, 'it has received everything once and in order') for @$clients;
    is(scalar($_->events('sse.gap')), 0, 'and no gap event') for @$clients;
    my $again = $far->stream('/on/a', last_event_id => $id);
    ok($again->wait_data('the end'), 'a client that returns with an old id receives the last event');
    my @later = short(@$sent);
    splice @later, 0, $source eq 'pubsub' ? 3 : 1;
    is(join(' ', short($again->data)), join(' ', @later), 'and everything after its id');
    is(scalar($again->events('sse.gap')), 0, 'without a gap event');
    $_->close for @$clients, $again;
    $far->ends_cleanly;
    return;
}

sub killed () {
    my ($proxy, $far, $clients, $sent, @old) = reading('pubsub');
    ok($far->cluster->reload, 'nginx reloads');
    push @$sent, publish('pubsub', 'plain 4', 'durable 3');
    for my $pid (@old) {
        $far->cluster->allow(qr/\[alert\] .*worker process $pid exited on signal 9/);
        kill 'KILL', $pid;
    }
    ok($far->cluster->wait_old_workers_gone(10), 'the old process is killed');
    $proxy->pass;
    push @$sent, publish('pubsub', 'durable 4');
    # It may take the next process a moment to take over.
    ok(wait_for(sub { !grep { !grep { $_ eq 'durable 4' } $_->data } @$clients }, 30), 'all streams receive the last event');
    my $all = join ' ', grep { !/plain/ } short(@$sent);
    is(join(' ', grep { !/plain/ } short($_->data)), $all, 'every durable event arrives once and in order') for @$clients;
    $_->close for @$clients;
    $far->ends_cleanly;
    return;
}

# Publishes events on channel a. Returns their texts.
sub publish ($source, @texts) {
    @texts = grep { !/plain/ } @texts if $source eq 'stream';
    for my $text (@texts) {
        if    ($source eq 'stream') { $redis->must('XADD', 'a', '*', 'data', $text) }
        elsif ($text =~ /plain/)    { $redis->must('PUBLISH', 'a', $text) }
        else                        { $redis->must('EVAL', $script, 1, 'sse:{sse}:s:a', $text) }
    }
    return @texts;
}

sub short (@texts) { return map { s/x+\z//r =~ tr/ /-/r } @texts }
