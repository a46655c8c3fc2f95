# Presence: a channel that reports who connects to and disconnects from the other channels of a hub.
# Reserved channels are readable only where they are configured explicitly.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP qw(decode_json);
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http => <<'EOF_HTTP',
        sse_hub talk { zone 4m; presence on; }
        sse_hub default { zone 4m; }
        sse_drain 200ms;
        sse_retry 100ms;
EOF_HTTP
    server => <<'EOF_CONFIG',
        location = /who       { sse_stream sse.presence hub=talk; sse_replay all; }
        location = /who-quiet { sse_stream sse.presence hub=default; }
        location = /room      { sse_stream $arg_r hub=talk split=,; }
        location = /both      { sse_stream sse.presence $arg_r hub=talk; }
        location = /quiet     { sse_stream $arg_r hub=default; }
        location = /say       { sse_publish $arg_r hub=talk; }
EOF_CONFIG
);
my $nginx = $stage->cluster;

my $presence = $stage->stream('/who');
my $ann = $stage->stream('/room?r=kitchen');
is(news('kitchen'), 'came 1, went 0, subscribers 1', 'a new stream is reported');
my @more = map { $stage->stream('/room?r=kitchen,hall') } 1 .. 2;
ok(wait_for(sub { (reports('kitchen'))[-1] =~ /subscribers 3/ }, 5), 'further streams are reported');
ok(wait_for(sub { (reports('hall'))[-1] =~ /subscribers 2/ }, 5), 'on each of their channels');
$more[0]->close;
ok(wait_for(sub { (reports('kitchen'))[-1] =~ /went 1, subscribers 2\z/ }, 5), 'a stream that ends is reported');
$more[1]->reset;
ok(wait_for(sub { (reports('kitchen'))[-1] =~ /went 1, subscribers 1\z/ }, 5), 'a stream whose client resets the connection is reported');
is(balance('kitchen'), 1, 'the reports add up to the open streams');
is(balance('hall'), 0, 'on every channel');

# Reserved channels are not reported.
my $second = $stage->stream('/who');
serve_for(0.5);
is(scalar(grep { /^sse\./ } map { $_->{channel} } all_reports($second)), 0, 'streams of the presence channel are not reported');
cmp_ok(scalar(all_reports($second)), '>=', 3, 'the presence channel has a history');
my $quiet = $stage->stream('/who-quiet');
my $there = $stage->stream('/quiet?r=cellar');
serve_for(0.5);
is(scalar(all_reports($quiet)), 0, 'a hub without presence publishes no reports');

# Reloads and a killed worker.
$ann->close;
my @clients = map { $stage->stream('/room?r=crowd', reconnect => 1) } 1 .. 8;
$presence->{reconnect} = 1;
ok(wait_for(sub { balance('crowd') == 8 }, 5), 'eight streams are opened');
$nginx->reload;
ok(wait_for(sub { !grep { $_->{openings} < 2 || !$_->is_open } @clients, $presence }, 10), 'all reconnect after a reload');
ok(wait_for(sub { balance('crowd') == 8 && (reports('crowd'))[-1] =~ /subscribers 8/ }, 5), 'the reported counts are right');
my %workers = map { $_->worker => 1 } @clients;
$nginx->kill_worker($_->worker) for $clients[0];
ok(wait_for(sub { !grep { !$_->is_open } @clients, $presence }, 10), 'all reconnect after a worker was killed');
ok(wait_for(sub { balance('crowd') == 8 && (reports('crowd'))[-1] =~ /subscribers 8/ }, 10), 'the reported counts are right again')
    or diag(join "\n", reports('crowd'));
$_->close for @clients;
ok(wait_for(sub { balance('crowd') == 0 && (reports('crowd'))[-1] =~ /subscribers 0/ }, 5), 'the end of all streams is reported');

# Clients cannot reach the presence channel unless the configuration names it.
for my $path ('/room?r=sse.presence', '/room?r=kitchen,sse.presence', '/both?r=sse.status', '/quiet?r=sse.') {
    my $answer = request(port => $stage->port, path => $path);
    is($answer->{status}, 400, "$path is rejected");
    like($answer->{body}, qr/reserved/, "$path: the response has the reason");
}
my $both = $stage->stream('/both?r=kitchen');
ok($both->is_open, 'it can be combined with another channel');
is(request(port => $stage->port, path => '/say?r=sse.presence', body => 'x')->{status}, 400, 'publishing to it is rejected');

$stage->ends_cleanly;
done_testing();

sub all_reports ($client = $presence) { return map { decode_json($_) } $client->data }

sub reports ($channel) {
    my @reports = map { "came $_->{came}, went $_->{went}, subscribers $_->{subscribers}" } grep { $_->{channel} eq $channel } all_reports();
    return @reports ? @reports : 'nothing';
}

sub news ($channel) {
    wait_for(sub { (reports($channel))[0] ne 'nothing' }, 5);
    return (reports($channel))[-1];
}

sub balance ($channel) {
    my $balance = 0;
    $balance += $_->{came} - $_->{went} for grep { $_->{channel} eq $channel } all_reports();
    return $balance;
}
