package SSE::Stage;

# A cluster, a publisher that reaches every channel, and the few verbs that most tests are made of.
#
# There is no waiting for silence: a test that must know that nothing more came publishes a last event
# on the same channel and looks at what came before it.

use v5.36;
use Test::More;
use SSE::Client;
use SSE::Cluster;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Publisher;

# The line about a hub that starts empty on a reload.
our $NEW_HUB = qr/^.*\bhub\b.*\b(?:new|empty|starts)\b.*$/mi;

# Options are those of SSE::Cluster. /to/NAME publishes on channel NAME.
sub new ($class, %options) {
    my $to      = 'location ~ ^/to/(.+)$ { sse_publish $1; }';
    my $cluster = SSE::Cluster->start(%options, server => "$to\n" . ($options{server} // ''));
    return bless { cluster => $cluster, fences => 0 }, $class;
}

sub cluster ($self) { return $self->{cluster} }
sub port    ($self) { return $self->{cluster}->port }

# Publishes one after the other; gives the ids.
sub publish ($self, $channel, @data) {
    my $publisher = SSE::Publisher->new(port => $self->port, path => "/to/$channel");
    my $done      = $publisher->publish(@data);
    my @refused   = @{ $publisher->{refused} };
    die "publishing on $channel: " . ($done ? "status $refused[0]{status}" : 'no answer') if !$done || @refused;
    $publisher->drop;
    return map { $_->{id} } $publisher->accepted;
}

# All at once: one batch. Gives the ids.
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

# How many streams of the channel this nginx has, as a publisher is told.
sub subscribers ($self, $channel) {
    my $answer = request(port => $self->port, path => "/to/$channel", body => '');
    return $answer && $answer->{json} ? $answer->{json}{subscribers} : -1;
}

# The figures of a hub, from the location /status of the caller's `server`; empty if there is no answer.
sub status ($self, $hub = 'default') {
    my $answer = request(port => $self->port, path => '/status', timeout => 3);
    return $answer && $answer->{json} ? $answer->{json}{hubs}{$hub} : {};
}

# An open stream.
sub stream ($self, $path, %options) {
    my $client = SSE::Client->new(port => $self->port, path => $path, %options);
    $client->wait_open or diag("the stream $path did not open: $client->{state} " . ($client->{status} // '-'));
    return $client;
}

# What the stream has got: its data, other types than "message" in front of it, up to an event that
# is published now, which is left out.
sub seen ($self, $client, $channel) {
    my $fence = 'fence ' . ++$self->{fences};
    $self->publish($channel, $fence);
    $client->wait_data($fence) or return ("no $fence");
    return grep { !/\Afence / } map { $_->{type} eq 'message' ? $_->{data} : "$_->{type} $_->{data}" }
        @{ $client->{events} };
}

# The same of a stream that is opened for it and then closed.
sub replayed ($self, $path, $channel, %options) {
    my $client = $self->stream($path, %options);
    my @seen   = $self->seen($client, $channel);
    $client->close;
    return @seen;
}

sub ends_cleanly ($self) { return $self->cluster->ends_cleanly }

1;
