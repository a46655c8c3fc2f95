# Live delivery: every client on every worker receives every event once and in the same order, whichever
# worker accepted it.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::EventIds qw(by_id);
use SSE::Loop qw(wait_for);
use SSE::Publisher;
use SSE::Stage;

my $stage = SSE::Stage->new(
    workers => 4,
    http    => 'sse_hub default { history 1000; }',
    server  => <<'EOF_CONFIG',
        location = /s    { sse_stream news; }
        location = /both { sse_stream news sport; }
EOF_CONFIG
);

my @clients = $stage->streams_on_workers(2, map { $_ % 2 ? '/s' : '/both' } 1 .. 40);
my %workers = map { $_->worker => 1 } @clients;
cmp_ok(scalar keys %workers, '>', 1, 'the clients are connected to several workers');
is($stage->subscribers('news'), 40, 'a publish response counts the streams of all workers');
is($stage->subscribers('sport'), 20, 'a stream of two channels is counted on both');
is($stage->subscribers('weather'), 0, 'other channels have no subscribers');

# Eight concurrent publishers on both channels.
my @writers = map { SSE::Publisher->new(port => $stage->port, path => $_ % 2 ? '/to/news' : '/to/sport') } 1 .. 8;
for my $number (1 .. 100) {
    $writers[$_]->put("$_:$number") for 0 .. $#writers;
}
ok(wait_for(sub { !grep { !$_->is_idle } @writers }, 30), 'all publishers receive responses');
my @all  = sort { by_id($a->{id}, $b->{id}) } map { $_->accepted } @writers;
my @news = grep { $_->{channel} eq 'news' } @all;
is(scalar @all, 800, 'every event is accepted');
my %seen;
$seen{ $_->{id} }++ for @all;
is(scalar keys %seen, 800, 'every id is unique');

ok(wait_for(sub { !grep { missing($_) } @clients }, 20), 'every client receives all of its events');
is(scalar(grep { !same($_) } @clients), 0, 'each event arrives once and in the order of ids');

# Large events, and a batch.
my @large = map { $_ . 'x' x 200_000 } 1 .. 5;
$stage->publish('news', @large);
ok(wait_for(sub { !grep { ($_->data)[-1] ne $large[-1] } @clients }, 20), 'large events arrive');
is(scalar(grep { join(',', ($_->data)[-5 .. -1]) ne join(',', @large) } @clients), 0, 'they arrive unchanged');
my @batch = $stage->batch('news', map { "line $_\nline two" } 1 .. 500);
ok(wait_for(sub { !grep { ($_->data)[-1] ne "line 500\nline two" } @clients }, 20), 'a batch arrives');
is(scalar(grep { join(',', map { $_->{id} } ($_->events('message'))[-500 .. -1]) ne join(',', @batch) } @clients), 0,
    'its events have the ids of the response');

# Clients that disconnect are not counted.
$_->close for @clients[0 .. 29];
ok(wait_for(sub { $stage->subscribers('news') == 10 }, 5), 'clients that disconnected are not counted');
$_->close for @clients[30 .. 39];
ok(wait_for(sub { $stage->subscribers('news') == 0 }, 5), 'when all have disconnected, the count is zero');

$stage->ends_cleanly;
done_testing();

sub wanted ($client) { return $client->{path} eq '/s' ? @news : @all }

# Leaves out the empty events by which subscribers() reads the count.
sub got ($client) { return grep { $_->{data} ne '' } $client->events('message') }

sub missing ($client) { return got($client) < wanted($client) }

sub same ($client) {
    return join(',', map { $_->{id} } got($client)) eq join(',', map { $_->{id} } wanted($client));
}
