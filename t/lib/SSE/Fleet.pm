package SSE::Fleet;

# Many clients and a few publishers that run while a test does something to nginx. Afterwards every client
# must have received every accepted event once and in the order of ids, and no request may have been
# rejected.

use v5.36;
use Test::More;
use SSE::Client;
use SSE::EventIds qw(by_id);
use SSE::Loop qw(wait_for);
use SSE::Publisher;

# cluster      the nginx; or clusters: several with the same hub, among which clients and publishers are spread
# clients      the number of clients of /stream; or groups: [{ path, count, channels => [...] }], where a group
#              without channels receives all of them
# quiet        the number of clients of a channel on which nothing is published until the end
# movers       every how many clients one reconnects to the next nginx each time; 0 for none
# publishers   their number
# rate         events per second, of all publishers together
# targets      the paths that they publish to in turn
# survivors    returns the ids of all events that Redis has at the end, if a master may have lost accepted
#              events: clients may have received those or not
#
# nginx must have the locations of $LOCATIONS that are used.
our $LOCATIONS = <<'EOF_LOCATIONS';
    location = /stream        { sse_stream loud; }
    location = /quiet         { sse_stream quiet; }
    location = /publish       { sse_publish loud; }
    location = /publish-quiet { sse_publish quiet; }
EOF_LOCATIONS

sub new ($class, %options) {
    my $self = bless { clients => 50, quiet => 10, publishers => 4, rate => 200, movers => 0, targets => ['/publish'],
        %options, born => 0 }, $class;
    $self->{clusters} //= [$self->{cluster}];
    $self->{groups}   //= [{ path => '/stream', count => $self->{clients} }];
    $_->{members}    = [$self->members_of($_->{path}, $_->{count})] for @{ $self->{groups} };
    $self->{silent}  = [$self->members_of('/quiet', $self->{quiet})];
    my @targets = @{ $self->{targets} };
    $self->{writers} = [map {
        SSE::Publisher->new(port => $self->port($_), path => $targets[int($_ / @{ $self->{clusters} }) % @targets])
    } 0 .. $self->{publishers} - 1];
    return $self;
}

# The port of one of the nginx instances, in turn.
sub port ($self, $number) { return $self->{clusters}[$number % @{ $self->{clusters} }]->port }

sub members_of ($self, $path, $count) { return map { $self->member($path, $self->{born}++) } 1 .. $count }

sub member ($self, $path, $number) {
    my %seen  = (events => [], gaps => 0);
    my $at    = $number;
    my $moves = $self->{movers} && $number % $self->{movers} == 0;
    my $client = SSE::Client->new(
        port      => $self->port($number),
        path      => $path,
        reconnect => 1,
        on_event  => sub ($event) {
            if    ($event->{type} eq 'message') { push @{ $seen{events} }, $event }
            elsif ($event->{type} eq 'sse.gap') { $seen{gaps}++ }
            return;
        },
        $moves ? (next_port => sub { $self->port(++$at) }) : (),
    );
    return { client => $client, seen => \%seen };
}

sub loud    ($self) { return map { @{ $_->{members} } } @{ $self->{groups} } }
sub members ($self) { return ($self->loud, @{ $self->{silent} }) }

# Waits until every client is connected and has an id to resume from.
sub wait_connected ($self) {
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

# The given events, without those that Redis has lost.
sub surviving ($self, @events) {
    return @events if !$self->{survivors};
    $self->{kept} //= { map { $_ => 1 } $self->{survivors}->() };
    return grep { $self->{kept}{ $_->{id} } } @events;
}

# The data that a client has received, without events that Redis has lost.
sub got ($self, $member) { return map { $_->{data} } $self->surviving(@{ $member->{seen}{events} }) }

sub accepted ($self) {
    my @all = map { $_->accepted } @{ $self->{writers} };
    return sort { by_id($a->{id}, $b->{id}) } @all;
}

# The number of events accepted so far.
sub count ($self) {
    my $count = 0;
    $count += $_->accepted for @{ $self->{writers} };
    return $count;
}

# The data that the clients of a group must receive.
sub expected ($self, $group) {
    my %on = map { $_ => 1 } @{ $group->{channels} // [] };
    return map { $_->{data} } grep { !%on || $on{ $_->{channel} } } $self->surviving($self->accepted);
}

# Stops publishing, publishes one event on the quiet channel, and waits for the outstanding events. A client
# that was answered by an exiting worker may reconnect only after up to 30 seconds.
sub verify ($self) {
    ok($self->stop_publishing, 'every publisher receives a response at the end');
    my $quiet = SSE::Publisher->new(port => $self->port(0), path => '/publish-quiet');
    ok($quiet->publish('at last'), 'the only event of the quiet channel is accepted') if $self->{quiet};
    my @refused = map { @{ $_->{refused} } } @{ $self->{writers} };
    is(scalar @refused, 0, 'no event is rejected');
    my @all = $self->accepted;
    cmp_ok(scalar @all, '>', 0, 'events were accepted: ' . @all);
    my $lost = @all - $self->surviving(@all);
    cmp_ok($lost, '<=', @{ $self->{writers} }, "$lost of them are lost in Redis") if $self->{survivors};
    for my $group (@{ $self->{groups} }) {
        my @expected = $self->expected($group);
        my $whose    = @{ $self->{groups} } > 1 ? " of $group->{path}" : '';
        wait_for(sub { !grep { $self->got($_) < @expected } @{ $group->{members} } }, 40);
        $self->all_have("every client$whose receives every accepted event once and in order", $group->{members}, @expected);
    }
    wait_for(sub { !grep { !$self->got($_) } @{ $self->{silent} } }, 40);
    $self->all_have('clients of the quiet channel receive its event', $self->{silent}, 'at last')
        if $self->{quiet};
    is(scalar(grep { $_->{client}{state} eq 'failed' } $self->members), 0, 'no stream is rejected');
    is(scalar(grep { $_->{seen}{gaps} } $self->members), 0, 'no gap event is sent');
    return;
}

sub all_have ($self, $name, $members, @expected) {
    my $text  = join ',', @expected;
    my @wrong = grep { join(',', $self->got($_)) ne $text } @$members;
    return if ok(!@wrong, $name);
    diag(@wrong . ' of ' . @$members . ' clients differ');
    diag($self->difference($_, @expected)) for @wrong[0 .. ($#wrong > 2 ? 2 : $#wrong)];
    return;
}

sub difference ($self, $member, @expected) {
    my @got = $self->got($member);
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
