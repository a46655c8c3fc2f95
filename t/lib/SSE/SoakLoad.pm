package SSE::SoakLoad;

# The clients and publishers of scripts/soak. Publishers number their events, so that each client is checked while
# it receives and nothing has to be kept, however long it runs.

use v5.36;
use SSE::Client;
use SSE::Cluster ();
use SSE::EventIds qw(by_id);
use SSE::Loop qw(after wait_for);
use SSE::Publisher;

# Locations with a stream: how many clients they have, the publishers (below) whose events these receive, and their
# configuration.
# Clients of a single channel see its order. If a worker that holds the subscription in Redis is killed, streams of
# patterns receive a gap event and may have lost events, since nothing in Redis says which channels match.
my %streams = (
    '/memory'         => { count => 10, from => ['A'],      text => 'sse_stream a;' },
    '/memory-lean'    => { count => 10, from => ['A'],      text => 'sse_stream a; sse_lean on;' },
    '/memory-both'    => { count => 4,  from => ['A', 'B'], text => 'sse_stream a,b split=,; sse_lean on;' },
    '/memory-pattern' => { count => 4,  from => ['A', 'B'], text => 'sse_stream * pattern;' },
    '/redis'          => { count => 6,  from => ['C', 'E'], text => 'sse_stream c hub=joined;' },
    '/redis-lean'     => { count => 6,  from => ['C', 'E'], text => 'sse_stream c hub=joined; sse_lean on;' },
    '/redis-pattern'  => { count => 4,  from => ['C', 'D', 'E'], text => 'sse_stream * pattern hub=joined;', has_gaps => 1 },
);

# Publishers over HTTP: their location, and events per second. E is the one that calls the script in Redis.
my %publishers = (
    A => { path => '/to-a', rate => 20, text => 'sse_publish a;' },
    B => { path => '/to-b', rate => 10, text => 'sse_publish b;' },
    C => { path => '/to-c', rate => 10, text => 'sse_publish c hub=joined;' },
    D => { path => '/to-d', rate => 5,  text => 'sse_publish d hub=joined;' },
);
my $script_rate = 10;

sub http ($redis_url) {
    return <<"EOF_HTTP";
        sse_hub default { zone 16m; history 5000 90s; }
        sse_hub joined  { zone 16m; history 5000 90s; redis $redis_url; }
        sse_retry 100ms jitter=200ms;
        sse_drain 1s;
        sse_heartbeat 5s;
EOF_HTTP
}

sub server {
    return join '', map({ "location = $_ { $streams{$_}{text} }\n" } sort keys %streams),
        map({ "location = $_->{path} { $_->{text} }\n" } values %publishers),
        "location = /status { sse_status; }\naccess_log off;\n";
}

# port   of nginx
# redis  an SSE::Redis
# script the text of lua/publish.lua
sub new ($class, %options) {
    my $self = bless { %options, members => [], published => {}, rejected => 0 }, $class;
    for my $path (sort keys %streams) {
        push @{ $self->{members} }, map { $self->member($path) } 1 .. $streams{$path}{count};
    }
    return $self;
}

sub clients ($self) { return map { $_->{client} } @{ $self->{members} } }

sub member ($self, $path) {
    my $stream = $streams{$path};
    my %member = (path => $path, from => $stream->{from}, next => { map { $_ => 1 } @{ $stream->{from} } },
        has_gaps => $stream->{has_gaps}, gap_covers => {}, received => 0, lost => 0, reported => 0, doubled => 0,
        disordered => 0, gaps => 0, expected_gaps => 0, id => '');
    # Of several channels, only each one has an order.
    $member{is_ordered} = $stream->{text} !~ /split|pattern/;
    $member{client} = SSE::Client->new(
        port      => $self->{port},
        path      => $path,
        reconnect => 1,
        on_event  => sub ($event) { $self->received(\%member, $event); return },
    );
    return \%member;
}

sub received ($self, $member, $event) {
    if ($event->{type} ne 'message') {
        $self->note_gap($member) if $event->{type} eq 'sse.gap';
        return;
    }
    my ($from, $number) = split /:/, $event->{data};
    my $next = $member->{next}{$from};
    $member->{received}++;
    my $is_reported = $number - 1 <= ($member->{gap_covers}{$from} // 0);
    if    ($number < $next) { $member->{doubled}++ }
    elsif ($number > $next) { $member->{ $is_reported ? 'reported' : 'lost' } += $number - $next }
    push @{ $member->{losses} }, "$from:$next up to $event->{data} with the id $event->{id}" if $number > $next && !$is_reported;
    $member->{next}{$from} = $number + 1 if $number >= $next;
    if ($member->{is_ordered}) {
        $member->{disordered}++ if $member->{id} ne '' && by_id($member->{id}, $event->{id}) >= 0;
        $member->{id} = $event->{id};
    }
    return;
}

# A gap event covers everything that was published before: a client that resumes receives it first, and then the
# events that remain.
sub note_gap ($self, $member) {
    return $member->{gaps}++ if !$member->{has_gaps};
    $member->{expected_gaps}++;
    $member->{gap_covers} = { map { ($_ => $self->sent($_)) } @{ $member->{from} } };
    return;
}

# The number of the newest event of a publisher.
sub sent ($self, $name) {
    my $publisher = $self->{writers}{$name} // $self->{script_connection};
    return $publisher ? $publisher->{sent} : 0;
}

# Waits until every client is connected and has an id to resume from.
sub wait_connected ($self) {
    return wait_for(sub { !grep { $_->{last_event_id} eq '' } $self->clients }, 20);
}

sub start ($self) {
    for my $name (sort keys %publishers) {
        my $publisher = SSE::Publisher->new(port => $self->{port}, path => $publishers{$name}{path});
        $publisher->stream($publishers{$name}{rate}, sub ($number) { "$name:$number" });
        $self->{writers}{$name} = $publisher;
    }
    my $connection = $self->{redis}->connect;
    $connection->stream($script_rate, sub ($number) {
        return ['EVAL', $self->{script}, 1, 'sse:{sse}:s:c', "E:$number"];
    });
    $self->{script_connection} = $connection;
    $self->collect;
    return;
}

# Replaces the lists of accepted and rejected events by their numbers.
sub collect ($self) {
    return if $self->{is_over};
    $self->count;
    after(5, sub { $self->collect });
    return;
}

sub count ($self) {
    for my $name (keys %{ $self->{writers} }) {
        my $writer = $self->{writers}{$name};
        $self->{published}{$name} += $writer->accepted;
        $self->{rejected} += @{ $writer->{refused} };
        @{ $writer->{$_} } = () for qw(accepted refused);
    }
    $self->{published}{E} = $self->{script_connection}{answered};
    return;
}

sub published ($self) {
    $self->count;
    my $sum = 0;
    $sum += $_ for values %{ $self->{published} };
    return $sum;
}

sub sum ($self, $what) {
    my $sum = 0;
    $sum += $_->{$what} for @{ $self->{members} };
    return $sum;
}

# How often an event was published again because there was no response.
sub repeats ($self) {
    my $sum = 0;
    $sum += $_->{repeats} for values %{ $self->{writers} };
    return $sum;
}

sub openings ($self) {
    my $sum = 0;
    $sum += $_->{openings} for $self->clients;
    return $sum;
}

# Stops publishing and waits for the outstanding events. A client that was answered by an exiting worker may
# reconnect only after up to 30 seconds. Returns what is wrong, as sentences.
sub finish ($self) {
    my @writers = values %{ $self->{writers} };
    my $script  = $self->{script_connection};
    $_->stop for @writers, $script;
    my @wrong;
    push @wrong, 'a publisher did not receive a response'
        if !wait_for(sub { !$script->pending && !grep { !$_->is_idle } @writers }, 20);
    $self->count;
    $self->{is_over} = 1;
    wait_for(sub { !grep { ($self->missing($_))[0] } @{ $self->{members} } }, 40);
    for my $member (@{ $self->{members} }) {
        my ($lost, $reported) = $self->missing($member);
        $member->{lost}     += $lost;
        $member->{reported} += $reported;
        push @wrong, "a stream of $member->{path} was rejected with status $member->{client}{status}"
            if $member->{client}{state} eq 'failed';
    }
    push @wrong, "$self->{rejected} publishes were rejected" if $self->{rejected};
    for my $what (qw(lost doubled disordered gaps)) {
        my $count = $self->sum($what);
        push @wrong, "$what: $count, on streams of " . join ' ', $self->where($what) if $count;
    }
    push @wrong, map { my $path = $_->{path}; map { "$path: lost $_" } @{ $_->{losses} // [] } } @{ $self->{members} };
    return @wrong;
}

# How many events that were published last a client has not received: without a gap event, and behind one.
sub missing ($self, $member) {
    my ($lost, $reported) = (0, 0);
    for my $from (@{ $member->{from} }) {
        my $missing = $self->{published}{$from} + 1 - $member->{next}{$from};
        my $covered = ($member->{gap_covers}{$from} // 0) + 1 - $member->{next}{$from};
        $covered = 0        if $covered < 0;
        $covered = $missing if $covered > $missing;
        $lost     += $missing - $covered;
        $reported += $covered;
    }
    return ($lost, $reported);
}

sub where ($self, $what) {
    my %paths = map { $_->{path} => 1 } grep { $_->{$what} } @{ $self->{members} };
    return sort keys %paths;
}

1;
