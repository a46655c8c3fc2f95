package SSE::Stage;

# An nginx, a location to publish on every channel, and the operations that most tests need.

use v5.36;
use Test::More;
use SSE::Client;
use SSE::Cluster;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Publisher;

# The log line about a hub that starts empty on a reload.
our $NEW_HUB = qr/^.*\bhub\b.*\b(?:new|empty|starts)\b.*$/mi;

# Options are those of SSE::Cluster. /to/NAME publishes on channel NAME.
sub new ($class, %options) {
    my $to      = 'location ~ ^/to/(.+)$ { sse_publish $1; }';
    my $cluster = SSE::Cluster->start(%options, server => "$to\n" . ($options{server} // ''));
    return bless { cluster => $cluster, fences => 0 }, $class;
}

sub cluster ($self) { return $self->{cluster} }
sub port    ($self) { return $self->{cluster}->port }

# Publishes each datum as an event, one after the other, and returns the ids.
sub publish ($self, $channel, @data) {
    my $publisher = SSE::Publisher->new(port => $self->port, path => "/to/$channel");
    my $done      = $publisher->publish(@data);
    my @refused   = @{ $publisher->{refused} };
    die "publishing on $channel: " . ($done ? "status $refused[0]{status}" : 'no answer') if !$done || @refused;
    $publisher->drop;
    return map { $_->{id} } $publisher->accepted;
}

# Publishes a batch and returns the ids.
sub batch ($self, $channel, @data) {
    my $answer = request(
        port    => $self->port,
        path    => "/to/$channel",
        headers => ['Content-Type' => 'text/event-stream'],
        body    => join('', map { 'data: ' . s/\n/\ndata: /gr . "\n\n" } @data),
    );
    die 'batch: ' . ($answer ? "$answer->{status} $answer->{body}" : 'no answer')
        if !$answer || $answer->{status} != 201;
    return @{ $answer->{json}{ids} };
}

# The number of streams of the channel, from a publish response.
sub subscribers ($self, $channel) {
    my $answer = request(port => $self->port, path => "/to/$channel", body => '');
    return $answer && $answer->{json} ? $answer->{json}{subscribers} : -1;
}

# The figures of a hub, from the location /status of the caller's `server`; empty if there is no answer.
sub status ($self, $hub = 'default') {
    my $answer = request(port => $self->port, path => '/status', timeout => 3);
    return $answer && $answer->{json} ? $answer->{json}{hubs}{$hub} : {};
}

# Opens a stream. After a reload, an old worker may have accepted the connection. It turns the client away with a
# 200 response that ends, and the client returns, as EventSource does.
sub stream ($self, $path, %options) {
    for my $attempt (1 .. 20) {
        my $client = SSE::Client->new(port => $self->port, path => $path, %options);
        return $client if $client->wait_open;
        next if $client->{state} eq 'ended' && ($client->{status} // 0) == 200 && $attempt < 20;
        diag("the stream $path did not open: $client->{state} " . ($client->{status} // '-'));
        return $client;
    }
}

# Opens a stream on each of these paths, in total on at least that many workers. The kernel chooses the worker, so a
# stream on a worker that has several is replaced until that is so.
sub streams_on_workers ($self, $workers, @paths) {
    my @clients = map { $self->stream($_) } @paths;
    my %on;
    push @{ $on{ $clients[$_]->worker } }, $_ for 0 .. $#clients;
    for (1 .. 1000) {
        return @clients if keys %on >= $workers;
        my ($crowded) = sort { @{ $on{$b} } <=> @{ $on{$a} } } keys %on;
        my $index = pop @{ $on{$crowded} };
        my $other = $self->stream($paths[$index]);
        $clients[$index]->close;
        $clients[$index] = $other;
        push @{ $on{ $other->worker } }, $index;
    }
    diag('all streams are on ' . keys(%on) . ' workers');
    return @clients;
}

# The data that the stream has received, preceded by types other than "message", up to and without an event
# that is published now.
sub seen ($self, $client, $channel) {
    my $fence = 'fence ' . ++$self->{fences};
    $self->publish($channel, $fence);
    $client->wait_data($fence) or return ("no $fence");
    return grep { !/\Afence / } map { $_->{type} eq 'message' ? $_->{data} : "$_->{type} $_->{data}" }
        @{ $client->{events} };
}

# Opens a stream, closes it, and returns what it has received, as seen() does. Like EventSource, it returns if an old
# worker ends it.
sub replayed ($self, $path, $channel, %options) {
    my $client = $self->stream($path, reconnect => 1, %options);
    my @seen   = $self->seen($client, $channel);
    $client->close;
    return @seen;
}

sub ends_cleanly ($self) { return $self->cluster->ends_cleanly }

1;
