# sse_admin: channels are listed, their streams ended, their events deleted.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http   => 'sse_hub default { zone 4m; } sse_hub other { zone 4m; } sse_retry 100ms; sse_open_event off;',
    server => <<'EOF_CONFIG',
        location ~ ^/s/(.+)$ { sse_stream $1; }
        location = /both     { sse_stream room:1 room:2; }
        location = /elsewhere { sse_publish elsewhere hub=other; }
        location = /admin    { sse_admin; }
        location = /other    { sse_admin hub=other; }
        location = /status   { sse_status; }
EOF_CONFIG
);
my $nginx = $stage->cluster;

# The listing.
is_deeply(admin()->{json}, { channels => [], next => undef }, 'at first there is no channel');
my %last;
($last{$_}) = reverse $stage->publish($_, 1 .. 3) for map { "room:$_" } 1 .. 5;
$stage->publish("user:\xc3\xa4", 'x');
request(port => $stage->port, path => '/elsewhere', body => 'x');
my @room = map { $stage->stream('/s/room:1', reconnect => 1) } 1 .. 6;
my $other_room = $stage->stream('/s/room:2');
my $answer = admin();
is($answer->{header}{'content-type'}[0], 'application/json', 'the listing is JSON');
is($answer->{header}{'cache-control'}[0], 'no-store', 'not to be kept');
my %listed = map { $_->{channel} => $_ } @{ $answer->{json}{channels} };
is_deeply([sort keys %listed], [(map { "room:$_" } 1 .. 5), "user:\xe4"], 'all channels of the hub are listed');
is_deeply($listed{'room:1'}, { channel => 'room:1', subscribers => 6, events => 3, last_id => $last{'room:1'} }, 'with what there is to know');
is_deeply($listed{'room:3'}, { channel => 'room:3', subscribers => 0, events => 3, last_id => $last{'room:3'} }, 'with streams or without');
is_deeply([map { $_->{channel} } @{ admin('', path => '/other')->{json}{channels} }], ['elsewhere'], 'another location shows another hub');
is_deeply([sort map { $_->{channel} } @{ admin('?prefix=room%3A')->{json}{channels} }], [map { "room:$_" } 1 .. 5], 'prefix chooses');
is_deeply(admin('?prefix=nothing')->{json}{channels}, [], 'or finds none');
is(admin('', method => 'HEAD')->{body}, '', 'HEAD gets no body');

# In pages.
$stage->publish("page:$_", 'x') for 1 .. 40;
my $pages = 0;
my %seen;
for (my $from = 0; defined $from; $pages++) {
    my $page = admin("?prefix=page:&limit=5&from=$from")->{json};
    $seen{ $_->{channel} }++ for @{ $page->{channels} };
    $from = $page->{next};
    last if $pages > 100;
}
is(scalar keys %seen, 40, 'page by page all are found');
is_deeply([grep { $_ != 1 } values %seen], [], 'each once');
cmp_ok($pages, '>', 3, "in several pages ($pages)");

# One channel.
is_deeply(admin('?channel=room:1')->{json}, $listed{'room:1'}, 'one channel can be asked for');
is_deeply(error_of('?channel=nobody'), [404, 'there is no such channel'], 'one that is not there is not found');
is(admin('?channel=user%3a%C3%A4')->{json}{channel}, "user:\xe4", 'a name is percent-decoded');

# What makes no sense.
for my $query ('?limit=0', '?limit=1001', '?limit=x', '?limit=', '?from=x', '?from=-1', '?from=99999999999999999999', '?channel=',
    '?channel=%ff', '?channel=a%0ab', '?channel=sse.status') {
    my ($status, $error) = @{ error_of($query) };
    is($status, 400, "GET $query is refused");
    ok($error, "because: $error");
}
is_deeply(admin('?from=999999999')->{json}, { channels => [], next => undef }, 'behind the end nothing comes');
for my $query ('', '?channel=', '?channel=room:1&only=x', '?channel=room:1&only=') {
    is(error_of($query, method => 'DELETE')->[0], 400, "DELETE $query is refused");
}
is(error_of('?channel=nobody', method => 'DELETE')->[0], 404, 'what is not there cannot be deleted');
my $post = admin('?channel=room:1', body => 'x');
is("$post->{status} $post->{header}{allow}[0]", '405 GET, HEAD, DELETE', 'POST is not allowed');
for my $headers (['Sec-Fetch-Site' => 'cross-site'], [Origin => 'http://evil.example']) {
    is(error_of('?channel=room:1', method => 'DELETE', headers => $headers)->[0], 403, "$headers->[0] of another site is refused");
}
is(admin('?channel=room:1')->{json}{subscribers}, 6, 'nothing was deleted by all this');
ok(!(grep { $_->{openings} != 1 } @room), 'and nobody was disturbed');

# Streams only: all workers' streams end, come back, and have missed nothing.
my $both = $stage->stream('/both', reconnect => 1);
is_deeply(deleted('room:1', '&only=streams'), { channel => 'room:1', streams => 7, events => 0 }, 'the streams of a channel are ended');
ok(wait_for(sub { !grep { $_->{openings} < 2 || !$_->is_open } @room, $both }, 10), 'all of them, and they come back');
is_deeply([map { $_->{ends}[0]{how} } @room, $both], [('clean') x 7], 'they were ended properly');
is(scalar(grep { $_->{ends}[0]{retry} > 1000 } @room), 0, 'and told to come back soon');
is($other_room->{openings}, 1, 'streams of another channel stay');
$stage->publish('room:1', 'after');
ok(wait_for(sub { !grep { !grep { $_ eq 'after' } $_->data } @room, $both }), 'and get what comes then');
is(scalar(grep { $_->events('sse.gap') } @room, $both), 0, 'and no gap');
is(admin('?channel=room:1')->{json}{events}, 4, 'the events are still there');

# History only: streams stay, and who returns with an older id is told a gap.
my $away = $stage->stream('/s/room:2');
my ($id) = $stage->publish('room:2', 'seen');
ok($away->wait_data('seen'), 'a client has seen an event');
$away->close;
is_deeply(deleted('room:2', '&only=history'), { channel => 'room:2', streams => 0, events => 4 }, 'the events of a channel are forgotten');
ok($other_room->is_open && $other_room->{openings} == 1, 'its streams stay');
is_deeply([$stage->seen($other_room, 'room:2')]->[-1], 'seen', 'and go on');
is(($stage->replayed('/s/room:2', 'room:2', last_event_id => $id))[0] =~ s/ .*//r, 'sse.gap', 'who returns is told a gap');

# Both.
is_deeply(deleted('room:1'), { channel => 'room:1', streams => 7, events => 4 }, 'a channel can be deleted as a whole');
ok(wait_for(sub { !grep { $_->{openings} < 3 || !$_->is_open } @room }, 10), 'its clients come back');
ok(wait_for(sub { !grep { !$_->events('sse.gap') } @room }, 5), 'and are told a gap');
is(admin('?channel=room:1')->{json}{events}, 0, 'nothing is retained');
my $figures = $stage->status;
is($figures->{streams_ended}{admin}, 14, 'ended streams are counted');
is($figures->{forgotten}, 8, 'so are forgotten events');
my @lines = $nginx->error_log =~ /\[notice\].* sse: (channel .*? deleted)/g;
is_deeply(\@lines, [
    'channel "room:1" of hub "default": 7 streams ended, 0 events deleted',
    'channel "room:2" of hub "default": 0 streams ended, 4 events deleted',
    'channel "room:1" of hub "default": 7 streams ended, 4 events deleted',
], 'each DELETE is logged');
is_deeply(deleted("user:%C3%A4")->{events}, 1, 'any name will do');
like($nginx->error_log, qr/channel "user:\\xc3\\xa4" of hub/, 'which is escaped in the log');

$_->close for @room, $both, $other_room;
$stage->ends_cleanly;

# What nginx refuses to start with.
for my $case (
    ['location /a { sse_admin hub=nowhere; }',             qr/unknown hub "nowhere" in "sse_admin" in \S+:\d+/],
    ['location /a { sse_admin channels; }',                qr/unknown parameter "channels" in \S+:\d+/],
    ['location /a { sse_admin hub=; }',                    qr/invalid hub name "" in "sse_admin" directive in \S+:\d+/],
    ['location /a { sse_admin; sse_admin; }',              qr/"sse_admin" directive is duplicate in \S+:\d+/],
    ['location /a { sse_admin; sse_status; }',             qr/two directives of this location .* in \S+:\d+/],
    ['sse_admin;',                                         qr/"sse_admin" directive is not allowed here in \S+:\d+/],
) {
    my ($server, $words) = @$case;
    my ($status, $said) = SSE::Cluster->new(server => $server)->check_config;
    isnt($status, 0, "refused: $server");
    like($said, qr/\[emerg\].*$words/, 'in these words');
}
done_testing();

sub admin ($query = '', %options) { return request(port => $stage->port, %options, path => ($options{path} // '/admin') . $query) }

sub deleted ($channel, $more = '') { return admin("?channel=$channel$more", method => 'DELETE')->{json} }

sub error_of ($query, %options) {
    my $got = admin($query, %options);
    return [$got->{status}, $got->{json}{error}];
}
