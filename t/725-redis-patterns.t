# Streams with pattern behind Redis: channels match by PSUBSCRIBE with its syntax, an event that several
# patterns and names match arrives once, and reloads lose nothing.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;
my @nginx = map {
    SSE::RedisStage->new(redis => $redis->url, hub => 'history 5000;', http => 'sse_drain 300ms; sse_name_events by_channel;',
        server => 'location ~ ^/like/(.+)$ { sse_stream $1 split=, pattern; }')
} 1, 2;
my ($one, $two) = @nginx;

# Globs.
my @channels = qw(hello hallo hxllo hllo heello h*llo hbllo other);
my %matched  = (
    'h?llo'     => [qw(hello hallo hxllo h*llo hbllo)],
    'h*llo'     => [qw(hello hallo hxllo hllo heello h*llo hbllo)],
    'h[ae]llo'  => [qw(hello hallo)],
    'h[^e]llo'  => [qw(hallo hxllo h*llo hbllo)],
    'h[a-b]llo' => [qw(hallo hbllo)],
    'h\\*llo'   => [qw(h*llo)],
    'other'     => [qw(other)],
);
my %stream = map { $_ => $one->stream('/like/' . s/([^\w])/sprintf '%%%02X', ord $1/ger) } sort keys %matched;
my $all    = $two->stream('/like/%2A');
for my $channel (@channels) {
    $redis->publish($channel, "plain to $channel");
    $two->publish($channel =~ s/\*/%2A/r, "durable to $channel");
}
$redis->publish($_, 'end') for 'hello', 'hallo', 'h*llo', 'other';
for my $pattern (sort keys %matched) {
    my @got = grep { $_ ne 'end' } map { $_->{data} } grep { $_->{type} ne 'sse.open' } @{ ended($stream{$pattern})->{events} };
    is_deeply(\@got, [map { ("plain to $_", "durable to $_") } grep { my $name = $_; grep { $_ eq $name } @{ $matched{$pattern} } } @channels],
        "$pattern matches as in Redis");
}
is(ended($all)->events('hello'), 3, 'events are named after their channel');
is($_->subscriptions($redis), 1, 'each nginx has one subscribing connection') for @nginx;

# Several matching patterns.
my $several = $one->stream('/like/room:1,room:%2A,%2A:1,r%2A');
my $exact   = $one->stream('/on/room:1');
$redis->publish('room:1', 'plain');
$one->publish('room:1', 'durable');
$redis->publish('room:2', 'another room');
$redis->publish('room:1', 'last');
is_deeply([texts($several, 'last')], ['plain', 'durable', 'another room', 'last'], 'an event that several patterns match arrives once');
is_deeply([texts($exact, 'last')], ['plain', 'durable', 'last'], 'a stream of the channel name receives it once');

# Resuming from the memory of this nginx.
my @events = grep { $_->{type} ne 'sse.open' } @{ $several->{events} };
my $back   = $one->stream('/like/room:%2A', last_event_id => $events[0]{id});
is_deeply([texts($back, 'last')], ['durable', 'another room', 'last'], 'a returning client receives the rest');

# Reloads.
my @stay   = map { $one->stream("/like/$_", reconnect => 1) } ('tick:%2A') x 4, 'tick:1,tick:%2A';
my $writer = $redis->connect;
$writer->stream(300, sub ($number) { ['PUBLISH', 'tick:' . $number % 3, $number] });
for (1 .. 4) {
    serve_for(0.5);
    ok($one->cluster->reload, 'nginx reloads');
}
ok($writer->stop, 'Redis accepted all messages');
my $last = $writer->{sent};
ok(wait_for(sub { !grep { !grep { $_->{data} eq $last } @{ $_->{events} } } @stay }, 35), 'every stream receives the last message');
is(scalar(grep { join(' ', texts($_, $last)) ne join ' ', 1 .. $last } @stay), 0, "all $last plain messages arrive once and in order")
    or diag(scalar texts($stay[0], $last));
ok(wait_for(sub { $one->subscriptions($redis) == 1 }, 5), 'there is one subscribing connection');

$_->ends_cleanly for @nginx;
done_testing();

sub ended ($client) {
    wait_for(sub { grep { $_->{data} eq 'end' } @{ $client->{events} } }, 10) or diag('no end');
    serve_for(0.05);
    return $client;
}

# The data of all events of any type up to this one.
sub texts ($client, $last) {
    wait_for(sub { grep { $_->{data} eq $last } @{ $client->{events} } }, 10) or return "no $last";
    return map { $_->{data} } grep { $_->{type} ne 'sse.open' } @{ $client->{events} };
}
