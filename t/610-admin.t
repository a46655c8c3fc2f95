# sse_admin: listing channels, ending their streams, and deleting their events.

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
is($answer->{header}{'cache-control'}[0], 'no-store', 'the listing must not be cached');
my %listed = map { $_->{channel} => $_ } @{ $answer->{json}{channels} };
is_deeply([sort keys %listed], [(map { "room:$_" } 1 .. 5), "user:\xe4"], 'all channels of the hub are listed');
is_deeply($listed{'room:1'}, { channel => 'room:1', subscribers => 6, events => 3, last_id => $last{'room:1'} }, 'with all their properties');
is_deeply($listed{'room:3'}, { channel => 'room:3', subscribers => 0, events => 3, last_id => $last{'room:3'} }, 'whether or not they have streams');
is_deeply([map { $_->{channel} } @{ admin('', path => '/other')->{json}{channels} }], ['elsewhere'], 'another location shows another hub');
is_deeply([sort map { $_->{channel} } @{ admin('?prefix=room%3A')->{json}{channels} }], [map { "room:$_" } 1 .. 5], 'prefix= filters the listing');
is_deeply(admin('?prefix=nothing')->{json}{channels}, [], 'a prefix can match nothing');
is(admin('', method => 'HEAD')->{body}, '', 'HEAD returns no body');

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
is(scalar keys %seen, 40, 'all channels are found page by page');
is_deeply([grep { $_ != 1 } values %seen], [], 'each channel is listed once');
cmp_ok($pages, '>', 3, "in several pages ($pages)");

# One channel.
is_deeply(admin('?channel=room:1')->{json}, $listed{'room:1'}, 'one channel can be queried');
is_deeply(error_of('?channel=nobody'), [404, 'there is no such channel'], 'an unknown channel is not found');
is(admin('?channel=user%3a%C3%A4')->{json}{channel}, "user:\xe4", 'a channel name is percent-decoded');

# Invalid requests.
for my $query ('?limit=0', '?limit=1001', '?limit=x', '?limit=', '?from=x', '?from=-1', '?from=99999999999999999999', '?channel=',
    '?channel=%ff', '?channel=a%0ab', '?channel=sse.status') {
    my ($status, $error) = @{ error_of($query) };
    is($status, 400, "GET $query is rejected");
    ok($error, "the error says: $error");
}
is_deeply(admin('?from=999999999')->{json}, { channels => [], next => undef }, 'a page after the end is empty');
for my $query ('', '?channel=', '?channel=room:1&only=x', '?channel=room:1&only=') {
    is(error_of($query, method => 'DELETE')->[0], 400, "DELETE $query is rejected");
}
is(error_of('?channel=nobody', method => 'DELETE')->[0], 404, 'an unknown channel cannot be deleted');
my $put = admin('?channel=room:1', method => 'PUT', body => 'x');
is("$put->{status} $put->{header}{allow}[0]", '405 GET, HEAD, POST, DELETE', 'PUT is not allowed');
for my $headers (['Sec-Fetch-Site' => 'cross-site'], [Origin => 'http://evil.example']) {
    is(error_of('?channel=room:1', method => 'DELETE', headers => $headers)->[0], 403, "$headers->[0] of another site is rejected");
}
is(admin('?channel=room:1')->{json}{subscribers}, 6, 'no rejected request deletes anything');
ok(!(grep { $_->{openings} != 1 } @room), 'no stream is affected');

# Streams only: streams on all workers end, reconnect, and miss nothing.
my $both = $stage->stream('/both', reconnect => 1);
is_deeply(deleted('room:1', '&only=streams'), { channel => 'room:1', streams => 7, events => 0 }, 'the streams of a channel are ended');
ok(wait_for(sub { !grep { $_->{openings} < 2 || !$_->is_open } @room, $both }, 10), 'all streams end and reconnect');
is_deeply([map { $_->{ends}[0]{how} } @room, $both], [('abrupt') x 7], 'their responses are interrupted, so that every client reconnects');
is(scalar(grep { $_->{ends}[0]{retry} > 1000 } @room), 0, 'with a short retry');
is($other_room->{openings}, 1, 'streams of another channel stay open');
$stage->publish('room:1', 'after');
ok(wait_for(sub { !grep { !grep { $_ eq 'after' } $_->data } @room, $both }), 'they receive later events');
is(scalar(grep { $_->events('sse.gap') } @room, $both), 0, 'and no gap event');
is(admin('?channel=room:1')->{json}{events}, 4, 'the events are retained');

# History only: streams stay open, and a client that returns with an older id receives a gap event.
my $away = $stage->stream('/s/room:2');
my ($id) = $stage->publish('room:2', 'seen');
ok($away->wait_data('seen'), 'a client has seen an event');
$away->close;
is_deeply(deleted('room:2', '&only=history'), { channel => 'room:2', streams => 0, events => 4 }, 'the events of a channel are deleted');
ok($other_room->is_open && $other_room->{openings} == 1, 'its streams stay open');
is_deeply([$stage->seen($other_room, 'room:2')]->[-1], 'seen', 'they receive new events');
is(($stage->replayed('/s/room:2', 'room:2', last_event_id => $id))[0] =~ s/ .*//r, 'sse.gap', 'a returning client receives a gap event');

# Streams and history.
is_deeply(deleted('room:1'), { channel => 'room:1', streams => 7, events => 4 }, 'a channel can be deleted as a whole');
ok(wait_for(sub { !grep { $_->{openings} < 3 || !$_->is_open } @room }, 10), 'its clients reconnect');
ok(wait_for(sub { !grep { !$_->events('sse.gap') } @room }, 5), 'they receive a gap event');
is(admin('?channel=room:1')->{json}{events}, 0, 'nothing is retained');
my $figures = $stage->status;
is($figures->{streams_ended}{admin}, 14, 'ended streams are counted');
is($figures->{forgotten}, 8, 'deleted events are counted');
my @lines = $nginx->error_log =~ /\[notice\].* sse: (channel .*? deleted)/g;
is_deeply(\@lines, [
    'channel "room:1" of hub "default": 7 streams ended, 0 events deleted',
    'channel "room:2" of hub "default": 0 streams ended, 4 events deleted',
    'channel "room:1" of hub "default": 7 streams ended, 4 events deleted',
], 'each DELETE is logged');
is_deeply(deleted("user:%C3%A4")->{events}, 1, 'a channel with a name of any characters can be deleted');
like($nginx->error_log, qr/channel "user:\\xc3\\xa4" of hub "default": 0 streams ended, 1 event deleted/, 'the name is escaped in the log');

$_->close for @room, $both, $other_room;
$stage->ends_cleanly;

# Invalid configurations.
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
    isnt($status, 0, "rejected: $server");
    like($said, qr/\[emerg\].*$words/, 'the message is as expected');
}
done_testing();

sub admin ($query = '', %options) { return request(port => $stage->port, %options, path => ($options{path} // '/admin') . $query) }

sub deleted ($channel, $more = '') { return admin("?channel=$channel$more", method => 'DELETE')->{json} }

sub error_of ($query, %options) {
    my $got = admin($query, %options);
    return [$got->{status}, $got->{json}{error}];
}
