# The wall clock of nginx jumps a day ahead and back, and to before all published events: ids increase, no event is
# lost, repeated, or expires early, and clients resume. In a hub with Redis the same holds, also if Redis' own clock
# jumps by up to an hour. If that falls back by more, its older ids are implausible: open streams still receive
# everything once, but ids start over, and a gap event reports it.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::EventIds qw(by_id);
use SSE::FakeClock;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;
use SSE::Stage;

my $DAY = 86_400;
my @JUMPS = ($DAY, 0, -$DAY, -3600, 30 * $DAY, 0);
my @SMALL = (1800, 0, -1800, 1500, -1500, 0);

my $channels = 0;
my $clock = SSE::FakeClock->new;
my $alone = $clock->in(sub {
    return SSE::Stage->new(
        http   => 'sse_hub default { history 1000 1h; } sse_retry 100ms;',
        server => 'location ~ ^/on/(.+)$ { sse_stream $1; sse_heartbeat 1s; } location ~ ^/all/(.+)$ { sse_stream $1; sse_replay all; }'
            . ' location = /time { return 200 $msec; }',
    );
});
$clock->set($DAY);
ok(wait_for(sub { time_of($alone) > time() + $DAY / 2 }), 'the clock of nginx can be set');
$clock->set(0);
ok(wait_for(sub { time_of($alone) < time() + $DAY / 2 }), 'and set back');
keeps_history(follow_jumps('in a hub in memory', $clock, \@JUMPS, $alone));
$alone->ends_cleanly;

my $redis = SSE::Redis->start;
my ($jumping, $steady) = ($clock->in(sub { stage($redis) }), stage($redis));
keeps_history(follow_jumps('in nginx with Redis', $clock, \@JUMPS, $jumping, $steady));
$_->ends_cleanly for $jumping, $steady;

my $other = SSE::FakeClock->new;
my $moved = $other->in(sub { SSE::Redis->start });
my @nginx = map { stage($moved) } 1, 2;
keeps_history(follow_jumps('in Redis', $other, \@SMALL, @nginx));
my $far = follow_jumps('in Redis', $other, \@JUMPS, @nginx);
is(scalar(grep { $_->events('sse.gap') != 3 } @{ $far->{clients} }), 0, 'a gap event is sent each time when Redis falls back by more than an hour');
$_->ends_cleanly for @nginx;
done_testing();

sub stage ($server) { return SSE::RedisStage->new(redis => $server->url, hub => 'history 1000 1h;') }

sub time_of ($stage) { return request(port => $stage->port, path => '/time')->{body} }

# Publishes after each jump. Clients of all nginx instances receive everything; some reconnect each time. Returns the
# nginx instances, the clients, and the data and ids of all events.
sub follow_jumps ($where, $set, $jumps, @stages) {
    my $channel = 'news-' . ++$channels;
    my @open  = map { my $stage = $_; map { $stage->stream("/on/$channel") } 1 .. 3 } @stages;
    my @moved = map { $_->stream("/on/$channel", reconnect => 1) } @stages;
    wait_for(sub { !grep { $_->{last_event_id} eq '' } @open, @moved });
    my (@ids, @data);
    for my $jump (@$jumps) {
        $set->set($jump);
        for my $stage (@stages) {
            my @new = map { @data + $_ } 1 .. 5;
            push @data, @new;
            push @ids,  $stage->publish($channel, @new);
        }
        my $key  = ['Idempotency-Key' => "key $jump " . @ids];
        my @once = map { request(port => $stages[0]->port, path => "/to/$channel", body => 'once', headers => $key)->{json}{id} } 1 .. 2;
        is($once[0], $once[1], "the clock $where is $jump s ahead: a repeated publish is recognized");
        push @data, 'once';
        push @ids,  $once[0];
        ok(wait_for(sub { !grep { $_->data < @data } @open, @moved }), 'events arrive') or diag(join ' ', map { scalar $_->data } @open, @moved);
        $_->move for @moved;
    }
    is(scalar(grep { "@{[$_->data]}" ne "@data" } @open), 0, 'open streams received each event once and in order');
    is(scalar(grep { "@{[$_->data]}" ne "@data" } @moved), 0, 'clients that reconnected received each event once and in order');
    return { stages => \@stages, channel => $channel, clients => [@open, @moved], ids => \@ids, data => \@data };
}

sub keeps_history ($seen) {
    my ($channel, @ids) = ($seen->{channel}, @{ $seen->{ids} });
    is(scalar(map { $_->events('sse.gap') } @{ $seen->{clients} }), 0, 'no gap event was sent');
    is(scalar(grep { by_id($ids[$_ - 1], $ids[$_]) >= 0 } 1 .. $#ids), 0, 'ids increase') or diag("@ids");
    my @known = map { [$_->replayed("/all/$channel", $channel)] } @{ $seen->{stages} };
    my $all   = join ' ', @{ $seen->{data} };
    is(scalar(grep { (join ' ', grep { !/\A(?:sse|fence)/ } @$_) ne $all } @known), 0, 'the history has all of them')
        or diag(map { "@$_\n" } @known);
    return;
}
