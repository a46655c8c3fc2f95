# A worker that is stopped (SIGSTOP) for at least five seconds blocks no other process, and its clients lose
# nothing.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::Loop qw(serve_for wait_for);
use SSE::Publisher;
use SSE::Stage;

my $stage = SSE::Stage->new(
    workers => 3,
    http    => 'sse_hub default { history 2000; }',
    server  => 'location = /s { sse_stream news; } location = /p { sse_publish news; }',
);
my $nginx = $stage->cluster;

my @clients  = $stage->streams_on_workers(2, ('/s') x 30);
my ($stopped) = map { $_->worker } @clients;
my @inside   = grep { $_->worker == $stopped } @clients;
my @outside  = grep { $_->worker != $stopped } @clients;
cmp_ok(scalar @outside, '>', 0, @outside . ' clients are on other workers, ' . @inside . ' on the one to be stopped');

# Publishers that are not connected to the stopped worker, whose requests would wait for it.
$nginx->pause($stopped);
my @writers = map { SSE::Publisher->new(port => $stage->port, path => '/p', answer_within => 1) } 1 .. 4;
my $number  = 0;
my $end     = time() + 5;
while (time() < $end || $number < 60) {
    my $data = 'event ' . ++$number;
    $writers[$number % 4]->put($data);
    wait_for(sub { !grep { last_of($_) ne $data } @outside }, 5) or last;
    serve_for(0.01);
}
cmp_ok($number, '>=', 60, "events are published and delivered while a worker is stopped ($number of them)");
is(scalar(grep { last_of($_) ne "event $number" } @outside), 0, 'the clients of other workers receive them all');
my $fresh = $stage->stream('/s');
ok($fresh->is_open, 'new clients are accepted');

$nginx->resume($stopped);
ok(wait_for(sub { !grep { last_of($_) ne "event $number" } @inside }, 10), 'its own clients receive all events once it continues');
ok(wait_for(sub { !grep { !$_->is_idle } @writers }, 10), 'all publishers receive responses');
my $expected = join ',', map { "event $_" } 1 .. $number;
is(scalar(grep { join(',', $_->data) ne $expected } @clients), 0, 'every client receives every event once and in order');
is(scalar(grep { $_->events('sse.gap') } @clients), 0, 'no gap event is sent');

$stage->ends_cleanly;
done_testing();

sub last_of ($client) { return ($client->data)[-1] // '' }
