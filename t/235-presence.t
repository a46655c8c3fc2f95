# Presence: a channel of the hub that tells who came to its other channels and who went, and the
# module's own channels, which nobody hears who is not let in outright.

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

my $who = $stage->stream('/who');
my $ann = $stage->stream('/room?r=kitchen');
is(news('kitchen'), 'came 1, went 0, subscribers 1', 'who comes is told');
my @more = map { $stage->stream('/room?r=kitchen,hall') } 1 .. 2;
ok(wait_for(sub { (told('kitchen'))[-1] =~ /subscribers 3/ }, 5), 'so are others');
ok(wait_for(sub { (told('hall'))[-1] =~ /subscribers 2/ }, 5), 'on each of their channels');
$more[0]->close;
ok(wait_for(sub { (told('kitchen'))[-1] =~ /went 1, subscribers 2\z/ }, 5), 'who goes is told');
$more[1]->reset;
ok(wait_for(sub { (told('kitchen'))[-1] =~ /went 1, subscribers 1\z/ }, 5), 'even who does so rudely');
is(balance('kitchen'), 1, 'came and went add up to those who are there');
is(balance('hall'), 0, 'on every channel');

# The module's own channels are left out.
my $second = $stage->stream('/who');
serve_for(0.5);
is(scalar(grep { /^sse\./ } map { $_->{channel} } all_news($second)), 0, 'who listens to it is not told');
cmp_ok(scalar(all_news($second)), '>=', 3, 'its history can be had');
my $quiet = $stage->stream('/who-quiet');
my $there = $stage->stream('/quiet?r=cellar');
serve_for(0.5);
is(scalar(all_news($quiet)), 0, 'a hub without presence tells nothing');

# Over reloads and the death of a worker.
$ann->close;
my @crowd = map { $stage->stream('/room?r=crowd', reconnect => 1) } 1 .. 8;
$who->{reconnect} = 1;
ok(wait_for(sub { balance('crowd') == 8 }, 5), 'a crowd comes');
$nginx->reload;
ok(wait_for(sub { !grep { $_->{openings} < 2 || !$_->is_open } @crowd, $who }, 10), 'after a reload all are back');
ok(wait_for(sub { balance('crowd') == 8 && (told('crowd'))[-1] =~ /subscribers 8/ }, 5), 'and the counts are right');
my %workers = map { $_->worker => 1 } @crowd;
$nginx->kill_worker($_->worker) for $crowd[0];
ok(wait_for(sub { !grep { !$_->is_open } @crowd, $who }, 10), 'after the death of a worker all are back');
ok(wait_for(sub { balance('crowd') == 8 && (told('crowd'))[-1] =~ /subscribers 8/ }, 10), 'and the counts are right again')
    or diag(join "\n", told('crowd'));
$_->close for @crowd;
ok(wait_for(sub { balance('crowd') == 0 && (told('crowd'))[-1] =~ /subscribers 0/ }, 5), 'all go');

# Nobody gets there whom the configuration does not let in.
for my $path ('/room?r=sse.presence', '/room?r=kitchen,sse.presence', '/both?r=sse.status', '/quiet?r=sse.') {
    my $answer = request(port => $stage->port, path => $path);
    is($answer->{status}, 400, "$path is refused");
    like($answer->{body}, qr/reserved/, "$path: and told why");
}
my $both = $stage->stream('/both?r=kitchen');
ok($both->is_open, 'beside another channel it can be heard');
is(request(port => $stage->port, path => '/say?r=sse.presence', body => 'x')->{status}, 400, 'nobody can publish there');

$stage->ends_cleanly;
done_testing();

sub all_news ($client = $who) { return map { decode_json($_) } $client->data }

sub told ($channel) {
    my @told = map { "came $_->{came}, went $_->{went}, subscribers $_->{subscribers}" } grep { $_->{channel} eq $channel } all_news();
    return @told ? @told : 'nothing';
}

sub news ($channel) {
    wait_for(sub { (told($channel))[0] ne 'nothing' }, 5);
    return (told($channel))[-1];
}

sub balance ($channel) {
    my $balance = 0;
    $balance += $_->{came} - $_->{went} for grep { $_->{channel} eq $channel } all_news();
    return $balance;
}
