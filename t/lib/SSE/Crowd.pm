package SSE::Crowd;

# Many clients and a few publishers at work while a test does something to nginx. Afterwards everyone
# must have every accepted event once and in the order of the ids, and nobody may have been refused.

use v5.36;
use Test::More;
use SSE::Client;
use SSE::Ids qw(by_id);
use SSE::Loop qw(wait_for);
use SSE::Publisher;

# cluster, clients, quiet (clients of a channel on which nothing happens until the end), publishers,
# rate (events a second of all publishers together). nginx must serve /stream, /publish, /quiet and
# /publish-quiet.
sub new ($class, %options) {
    my $self = bless { clients => 50, quiet => 10, publishers => 4, rate => 200, %options }, $class;
    my $port = $self->{cluster}->port;
    $self->{loud}    = [map { member($port, '/stream') } 1 .. $self->{clients}];
    $self->{silent}  = [map { member($port, '/quiet') } 1 .. $self->{quiet}];
    $self->{writers} = [map { SSE::Publisher->new(port => $port) } 1 .. $self->{publishers}];
    return $self;
}

sub member ($port, $path) {
    my %seen = (data => [], gaps => 0, at => []);
    my $client = SSE::Client->new(
        port             => $port,
        path             => $path,
        reconnect        => 1,
        on_event         => sub ($event) {
            if    ($event->{type} eq 'message') { push @{ $seen{data} }, $event->{data} }
            elsif ($event->{type} eq 'sse.gap') { $seen{gaps}++ }
            return;
        },
    );
    return { client => $client, seen => \%seen };
}

sub members ($self) { return (@{ $self->{loud} }, @{ $self->{silent} }) }

# Everyone is connected and has a place to come back to.
sub gather ($self) {
    return wait_for(sub { !grep { $_->{client}{last_event_id} eq '' } $self->members }, 20);
}

sub start_publishing ($self) {
    my $rate = $self->{rate} / @{ $self->{writers} };
    for my $writer (@{ $self->{writers} }) {
        $writer->stream($rate, sub ($number) { "$writer->{name}:$number" });
    }
    return;
}

sub stop_publishing ($self) {
    $_->stop for @{ $self->{writers} };
    return wait_for(sub { !grep { !$_->is_idle } @{ $self->{writers} } }, 20);
}

sub accepted ($self) {
    my @all = map { $_->accepted } @{ $self->{writers} };
    return sort { by_id($a->{id}, $b->{id}) } @all;
}

# Publishing ends, the quiet channel has its one event, and everyone gets what is still to come. A
# client that met a worker on its way out may have been told to stay away for up to 30 s.
sub verify ($self) {
    ok($self->stop_publishing, 'every publisher gets an answer in the end');
    my $quiet = SSE::Publisher->new(port => $self->{cluster}->port, path => '/publish-quiet');
    ok($quiet->publish('at last'), 'the quiet channel gets its only event') if $self->{quiet};
    my @expected = map { $_->{data} } $self->accepted;
    my @refused  = map { @{ $_->{refused} } } @{ $self->{writers} };
    is(scalar @refused, 0, 'no event is refused');
    cmp_ok(scalar @expected, '>', 0, 'events were accepted: ' . scalar @expected);
    wait_for(sub { !grep { @{ $_->{seen}{data} } < @expected } @{ $self->{loud} } }, 40);
    $self->all_have('every client has every accepted event once and in order', $self->{loud}, @expected);
    wait_for(sub { !grep { !@{ $_->{seen}{data} } } @{ $self->{silent} } }, 40);
    $self->all_have('clients that had received nothing yet have the first event', $self->{silent}, 'at last')
        if $self->{quiet};
    is(scalar(grep { $_->{client}{state} eq 'failed' } $self->members), 0, 'nobody was ever refused');
    is(scalar(grep { $_->{seen}{gaps} } $self->members), 0, 'nobody was told a gap');
    return;
}

sub all_have ($self, $name, $members, @expected) {
    my $text  = join ',', @expected;
    my @wrong = grep { join(',', @{ $_->{seen}{data} }) ne $text } @$members;
    return if ok(!@wrong, $name);
    diag(@wrong . ' of ' . @$members . ' clients differ');
    diag(difference($_, @expected)) for @wrong[0 .. ($#wrong > 2 ? 2 : $#wrong)];
    return;
}

sub difference ($member, @expected) {
    my @got = @{ $member->{seen}{data} };
    my $at  = 0;
    $at++ while $at < @got && $at < @expected && $got[$at] eq $expected[$at];
    my (%times, %wanted);
    $times{$_}++ for @got;
    $wanted{$_} = 1 for @expected;
    my @missing = grep { !$times{$_} } @expected;
    my @double  = grep { $times{$_} > 1 } keys %times;
    my @strange = grep { !$wanted{$_} } keys %times;
    my $client  = $member->{client};
    return sprintf 'got %d of %d; differs from place %d; %d missing (first %s), %d double, %d never accepted; '
        . 'openings %d, state %s, status %s, last id %s',
        scalar @got, scalar @expected, $at, scalar @missing, $missing[0] // '-', scalar @double,
        scalar @strange, $client->{openings}, $client->{state}, $client->{status} // '-', $client->{last_event_id};
}

1;
