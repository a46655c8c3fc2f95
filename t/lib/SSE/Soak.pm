package SSE::Soak;

# scripts/soak: reloads and killed workers in turn, under load, for a given time.

use v5.36;
use POSIX ();
use Time::HiRes qw(time);
use SSE::Cluster;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::ResourceSamples;
use SSE::SoakLoad;

# Samples of the first minutes are not used: until then hubs and idempotency keys (2 minutes) fill.
my $warm_up = 180;
my $least_minutes_for_memory = 10;

# minutes  how long
# root     the project's directory
sub new ($class, %options) {
    return bless { %options, reloads => 0, kills => 0, wrong => [] }, $class;
}

# Runs it, prints the table, and returns the exit status.
sub run ($self) {
    local @SIG{qw(INT TERM)} = (sub { exit 130 }) x 2;
    $self->start;
    my $until = time() + 60 * $self->{minutes};
    my $report = time() + 60;
    for (my $round = 1; time() < $until && !@{ $self->{wrong} }; $round++) {
        $self->disturb($round);
        next if time() < $report;
        $self->report;
        $report += 60;
    }
    $self->finish;
    return $self->print_verdict;
}

sub start ($self) {
    $self->{redis} = SSE::Redis->start;
    $self->{nginx} = SSE::Cluster->start(
        http   => SSE::SoakLoad::http($self->{redis}->url),
        server => SSE::SoakLoad::server(),
    );
    $self->{load} = SSE::SoakLoad->new(
        port   => $self->{nginx}->port,
        redis  => $self->{redis},
        script => SSE::Cluster::slurp("$self->{root}/lua/publish.lua"),
    );
    $self->{load}->wait_connected or $self->wrong('not all clients could connect');
    $self->{load}->start;
    $self->{samples} = SSE::ResourceSamples->new(cluster => $self->{nginx}, warm_up => $warm_up);
    $self->{since}   = time();
    return;
}

# A reload and a killed worker. In every second round the worker is killed while old ones are draining, and
# may be one of these.
sub disturb ($self, $round) {
    my $nginx = $self->{nginx};
    $nginx->reload or return $self->wrong('a reload did not start new workers');
    $self->{reloads}++;
    $self->settle if $round % 2;
    my @workers = ($nginx->workers, $nginx->old_workers);
    $nginx->kill_worker($workers[rand @workers]) or return $self->wrong('a killed worker was not replaced');
    $self->{kills}++;
    $self->settle;
    # Clients of the killed worker reconnect after up to 300 ms.
    wait_for(sub { !grep { !$_->is_open } $self->{load}->clients }, 0.25);
    $self->{samples}->take;
    return;
}

sub settle ($self) {
    return $self->{nginx}->wait_old_workers_gone(15) || $self->wrong('old workers did not exit');
}

sub wrong ($self, @sentences) {
    push @{ $self->{wrong} }, @sentences;
    return;
}

sub report ($self) {
    my $last = $self->{samples}->last;
    printf STDERR "%5d min: %d reloads, %d kills, %d published, %d received; master %d KiB, %d descriptors\n",
        (time() - $self->{since}) / 60, $self->{reloads}, $self->{kills}, $self->{load}->published,
        $self->{load}->sum('received'), $last->{master_kb} // 0, $last->{master_fds} // 0;
    return;
}

sub finish ($self) {
    my $nginx = $self->{nginx};
    $self->{took} = time() - $self->{since};
    $self->wrong($self->{load}->finish);
    for my $row ($self->rows) {
        my ($title, $before, $after, $most) = @$row;
        $self->wrong("$title: $after at the end, $before before, at most $most are acceptable") if $after > $most;
    }
    SSE::Loop::drop_all();
    $nginx->quit or $self->wrong('nginx does not exit on QUIT');
    my @bad = $nginx->bad_lines;
    $self->wrong(@bad . ' unexpected lines in the error log, such as:', @bad[0 .. ($#bad > 9 ? 9 : $#bad)]) if @bad;
    return;
}

sub rows ($self) { return $self->{minutes} < $least_minutes_for_memory ? () : $self->{samples}->rows }

sub print_verdict ($self) {
    my $load = $self->{load};
    my @counts = (
        ['minutes', int($self->{took} / 60)],
        ['reloads', $self->{reloads}],
        ['workers killed', $self->{kills}],
        ['changes completed for a killed worker', $self->{samples}->last->{repairs} // 0],
        ['streams opened', $load->openings],
        ['events published', $load->published],
        ['publishes repeated because of no response', $load->repeats],
        ['events received', $load->sum('received')],
        ['events lost', $load->sum('lost')],
        ['events received twice', $load->sum('doubled')],
        ['events out of order', $load->sum('disordered')],
        ['gap events', $load->sum('gaps')],
        ['streams of patterns with Redis: gap events', $load->sum('expected_gaps')],
        ['the same: events lost after these', $load->sum('reported')],
    );
    printf "| %-45s | %12s |\n| --- | ---: |\n", 'figure', 'number';
    printf "| %-45s | %12d |\n", @$_ for @counts;
    printf "\n| %-45s | %12s | %12s | %12s |\n| --- | ---: | ---: | ---: |\n", 'median', 'first fifth', 'last fifth', 'limit' if $self->rows;
    printf "| %-45s | %12d | %12d | %12d |\n", @$_ for $self->rows;
    say '';
    say "WRONG: $_" for @{ $self->{wrong} };
    say @{ $self->{wrong} } ? 'failed' : 'passed';
    return @{ $self->{wrong} } ? 1 : 0;
}

1;
