# A client returns with an id that is ahead of its channel: the ids of another stream were ahead, or Redis
# restarted with an older clock. It receives a gap event and then everything, like a new client, and does
# not wait until ids reach its own.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my @PATHS = ('/on/good', '/lean/good', '/on/' . join(',', 'good', map { "other-$_" } 1 .. 63));
my $LEAN  = 'location ~ ^/lean/(.+)$ { sse_stream $1 split=,; sse_lean on; }';

for my $source (qw(pubsub stream)) {
    my $redis = SSE::Redis->start(notify => 'Kt');
    my %options = (redis => $redis->url, hub => "redis_source $source;", server => $LEAN, workers => 2);
    my $add = sub ($nginx, $data) {
        return $source eq 'stream' ? $redis->must('XADD', 'good', '*', 'data', $data) : $nginx->publish('good', $data);
    };

    # The clock is ahead, and clients receive such an id.
    my $before = SSE::RedisStage->new(%options);
    my @first  = map { $before->stream($_) } @PATHS, '/on/ahead';
    my $ahead  = int((time() + 1800) * 1000) . '-0';
    if ($source eq 'stream') {
        $redis->must('XADD', 'ahead', $ahead, 'data', 'ahead');
        ok($first[-1]->wait_data('ahead'), "$source: an event is ahead");
    }
    else {
        $redis->must('XADD', 'sse:{sse}:clock', 'MAXLEN', 1, $ahead, 't', '');
    }
    $add->($before, 'one');
    ok($_->wait_data('one'), 'an event arrives') for @first[0 .. $#PATHS];
    my @ids = map { $_->{last_event_id} } @first[0 .. $#PATHS];
    cmp_ok((split /-/)[0], '>', (time() + 1000) * 1000, 'its id is ahead') for @ids;
    $before->ends_cleanly;
    $source eq 'stream' ? $redis->must('DEL', 'ahead') : $redis->must('FLUSHALL');
    $add->($before, 'missed') if $source eq 'stream';

    # An nginx that has never seen these ids.
    my $after = SSE::RedisStage->new(%options);
    my $new   = $after->stream('/on/good');
    my @back  = map { $after->stream($PATHS[$_], last_event_id => $ids[$_]) } 0 .. $#PATHS;
    my $count = 0;
    my $live  = sub { $add->($after, 'live ' . ++$count); return };
    $live->();
    ok($new->wait_data('live 1'), 'a new client receives events');
    ok($_->wait_data('live 1'), 'a client with that id receives events too') for @back;
    $live->() for 1 .. 3;
    for my $client (@back) {
        is(join('|', $after->got($client, 'live 4')) =~ s/sse\.gap \{[^}]*\}/gap/r, 'gap|live 1|live 2|live 3|live 4',
            'after a gap event it receives everything once');
    }
    is($_->{last_event_id} eq $new->{last_event_id} || $_->{last_event_id} =~ /-\d+-\d+\z/, 1, 'with current ids') for @back;
    # Afterwards resuming works as usual.
    my $then = $after->stream('/on/good', last_event_id => $back[0]{last_event_id});
    $live->();
    is_deeply([$after->got($then, 'live 5')], ['live 5'], 'a client that returns with such an id misses nothing');
    $after->ends_cleanly;
}
done_testing();
