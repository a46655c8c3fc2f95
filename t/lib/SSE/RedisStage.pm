package SSE::RedisStage;

# A stage whose hub is connected to Redis, with helpers for tests with Redis. Several stages with the same
# Redis are several nginx instances of one hub.

use v5.36;
use parent 'SSE::Stage';
use Test::More;
use Time::HiRes qw(time);
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);

# redis     the URL
# hub       more lines for the hub's block
# The other options are those of SSE::Stage. /on/A,B streams channels A and B, /like/A* the channels that match,
# and /status has the status.
sub new ($class, %options) {
    my $hub = "sse_hub default { redis $options{redis}; " . ($options{hub} // "") . " }";
    my $at_start = delete $options{away} ? 0 : 1;
    my $self = $class->SUPER::new(
        %options,
        http => "$hub\nsse_retry 100ms jitter=100ms;\n" . ($options{http} // ''),
        server => <<"EOF_SERVER" . ($options{server} // ''),
            location ~ ^/on/(.+)\$   { sse_stream \$1 split=,; }
            location ~ ^/all/(.+)\$  { sse_stream \$1 split=,; sse_replay all; }
            location = /status      { sse_status; }
EOF_SERVER
    );
    return $self if !$at_start;
    $self->wait_up or diag('the hub does not reach its Redis: ' . $self->state);
    return $self;
}

sub state      ($self) { return $self->status->{redis} // 'untold' }
sub reconnects ($self) { return $self->status->{redis_reconnects} // -1 }
sub wait_up    ($self, $timeout = 15) { return wait_for(sub { $self->state eq 'up' }, $timeout) }

# Opens a stream and waits for its first id, so that it receives everything from now on.
sub stream ($self, $path, %options) {
    my $client = $self->SUPER::stream($path, %options);
    return $client if defined $options{last_event_id};
    wait_for(sub { $client->{last_event_id} ne '' }) or diag("the stream $path has no beginning");
    return $client;
}

# The events of the stream as text, up to the one with this data.
sub got ($self, $client, $last, $timeout = 10) {
    $client->wait_data($last, $timeout) or return ("no $last");
    return map { $_->{type} eq 'message' ? $_->{data} : "$_->{type} $_->{data}" } grep { $_->{type} ne 'sse.open' }
        @{ $client->{events} };
}

# Publishes once and returns the response, with its duration in seconds in {took}.
sub post ($self, $channel, $data, %options) {
    my $since  = time();
    my $answer = request(port => $self->port, path => "/to/$channel", body => $data, %options) // { status => 'none' };
    $answer->{took} = time() - $since;
    return $answer;
}

# The lines of the error log about Redis, without those of levels debug and info.
sub lines ($self) {
    return my @lines = grep { /\bredis\b/i && /\[(?:notice|warn|error|crit|alert|emerg)\]/ && !/ \d+#\d+: \*\d+ / }
        split /\n/, $self->cluster->error_log;
}

# The pid of the process that holds the subscribing connection. After a reload or the death of a process, there may
# be none for a moment.
sub holder ($self, $redis) {
    my @held;
    wait_for(sub { @held = $redis->subscribers($self->cluster->children) }) or diag('no process is subscribed');
    return $held[0] ? $held[0]{pid} : undef;
}

# The number of subscribing connections of all its processes.
sub subscriptions ($self, $redis) { return scalar $redis->subscribers($self->cluster->children) }

1;
