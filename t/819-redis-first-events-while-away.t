# The first events of a channel that never had any are published while an nginx is disconnected from Redis. Its open
# streams, and clients that return with an id from before them, receive these events without a gap event.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

# What happens in Redis between the opening of the streams and the loss of the connection.
for my $case (
    ['nothing was ever published',              sub ($other) { }],
    ['another channel had its first event',     sub ($other) { $other->publish('other', 'first of all') }],
    ['another channel had events for seconds',  sub ($other) {
        my $until = time + 3;
        $other->publish('other', 'again') while time < $until;
    }],
) {
    my ($name, $before) = @$case;
    for my $at_start (1, 0) {
        my $redis = SSE::Redis->start;
        my ($one, $other) = map { SSE::RedisStage->new(redis => $redis->url, workers => 1) } 1, 2;
        $other->publish('earlier', 'the database is not new') if !$at_start;
        my $title = $name . ($at_start ? '' : ' after the streams opened');
        my $stays   = $one->stream('/on/news');
        my $twice   = $one->stream('/on/news,more');
        my $returns = $one->stream('/on/news');
        $before->($other);
        my $id = $returns->{last_event_id};
        $returns->close;
        my ($worker) = $one->cluster->workers;
        $one->cluster->pause($worker);
        $redis->must('CLIENT', 'KILL', 'ID', $_->{id}) for $redis->subscribers($worker);
        my @expected = map { "event $_" } 1 .. 40;
        $other->publish('news', @expected);
        $one->cluster->resume($worker);
        for my $client ($stays, $twice) {
            is_deeply([$one->got($client, 'event 40')], \@expected, "$title: an open stream receives the events, and no gap event");
        }
        my $returned = $one->stream('/on/news', last_event_id => $id);
        is_deeply([$one->got($returned, 'event 40')], \@expected, "$title: so does a client that returns");
        $_->ends_cleanly for $one, $other;
    }
}
done_testing();
