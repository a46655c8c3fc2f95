# sse_admin: the page for browsers, the events of one channel, publishing, and the channels with the most streams
# and events.

use v5.36;
use Digest::SHA qw(sha256_base64);
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;
use SSE::Stage;

my $stage = SSE::Stage->new(
    http => 'sse_hub default { zone 4m; } sse_hub other { zone 4m; } sse_retry 100ms; sse_drain 300ms; sse_gap_event off; sse_open_event off;'
        . ' log_format admin "$request_method $sse_channel $sse_subscribers $sse_end";',
    server => <<'EOF_CONFIG',
        location ~ ^/s/(.+)$   { sse_stream $1; }
        location = /admin      { sse_admin; access_log %%DIR%%/admin.log admin; }
        location /deep/admin/  { sse_admin; }
        location = /other      { sse_admin hub=other; }
        location = /read       { sse_admin; limit_except GET { deny all; } }
        location = /filtered   { sse_admin; sse_direct off; sse_name_events by_channel; sse_finished 204; sse_max_subscribers 1; }
        location = /status     { sse_status; }
EOF_CONFIG
);
my $html   = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8';
my @stream = (headers => [Accept => 'text/event-stream']);

# Which format a request receives.
$stage->publish('room:1', 'first');
for my $case (
    [undef,               '',                           'application/json'],
    ['*/*',               '',                           'application/json'],
    [$html,               '',                           'text/html; charset=utf-8'],
    [$html,               '?channel=room:1',            'text/html; charset=utf-8'],
    [$html,               '?channel=room:1&format=json', 'application/json'],
    [undef,               '?format=html',               'text/html; charset=utf-8'],
    ['text/plain',        '',                           'application/json'],
    ['text/html;q=0.1, application/json', '',           'application/json'],
) {
    my ($accept, $query, $type) = @$case;
    my @headers = defined $accept ? (headers => [Accept => $accept]) : ();
    for my $method (qw(GET HEAD)) {
        my $answer = admin($query, @headers, method => $method);
        my $name   = "$method '$query' for " . ($accept // 'anybody');
        is("$answer->{status} $answer->{header}{'content-type'}[0]", "200 $type", $name);
        is_deeply($answer->{header}{vary}, ['Accept'], "$name: Vary");
        is($answer->{header}{'cache-control'}[0], $type =~ /html/ ? 'no-cache' : 'no-store', "$name: Cache-Control");
        is($answer->{body} eq '', $method eq 'HEAD', "$name: body");
    }
}
is(admin('?format=xml')->{json}{error}, 'format must be json or html', 'an unknown format is rejected');

# The page.
my $page = admin('', headers => [Accept => $html]);
is(admin('', path => '/deep/admin/x', headers => [Accept => $html])->{body}, $page->{body}, 'it is the same at any location');
unlike($page->{body}, qr{https?://|//cdn|<link rel="stylesheet| src=|\@import|innerHTML|insertAdjacentHTML|document\.write|\son\w+="|style="},
    'it loads nothing, and has nothing that interprets text as HTML');
my $policy = $page->{header}{'content-security-policy'}[0];
for my $element (qw(style script)) {
    my ($content) = $page->{body} =~ m{<$element>(.*?)</$element>}s;
    my $hash = 'sha256-' . sha256_base64($content) . '=';
    like($policy, qr/\b$element-src '\Q$hash\E';/, "its policy allows its own $element");
}
unlike($policy, qr/unsafe/, 'its policy allows no other');
like($policy, qr/default-src 'none'.*frame-ancestors 'none'/, 'and no frames');
my $etag = $page->{header}{etag}[0];
like($etag, qr{\AW/"[0-9a-f]{32}"\z}, 'it has an entity tag');
for my $known ($etag, $etag =~ s{^W/}{}r, qq("x", $etag), '*') {
    my $answer = admin('', headers => [Accept => $html, 'If-None-Match' => $known]);
    is("$answer->{status} $answer->{header}{etag}[0] $answer->{header}{vary}[0]", "304 $etag Accept", "it is not sent again for $known");
    is($answer->{body}, '', 'without a body');
}
is(admin('', headers => [Accept => $html, 'If-None-Match' => '"x"'])->{status}, 200, 'it is sent for another tag');
is(admin('', headers => ['If-None-Match' => $etag])->{status}, 200, 'the list has none');

# The events of a channel.
my $live = $stage->stream('/admin?channel=room:1', @stream, reconnect => 1);
is($live->header('content-type'), 'text/event-stream', 'a request for an event stream receives one');
is($live->header('vary'), 'Accept', 'the response varies by Accept');
ok($live->wait_data('first'), 'it has the retained events');
$stage->publish('room:1', 'second');
$stage->publish('room:2', 'of another channel');
ok($live->wait_data('second'), 'and each new one');
is_deeply([$live->data], ['first', 'second'], 'of this channel only');
is(admin('?channel=room:1')->{json}{subscribers}, 1, 'the stream is counted');
ok($stage->cluster->reload, 'nginx reloads');
ok(wait_for(sub { $live->{openings} == 2 && $live->is_open }, 15), 'the stream returns');
$stage->publish('room:1', 'third');
ok($live->wait_data('third'), 'it receives later events');
is_deeply([$live->data], ['first', 'second', 'third'], 'and misses nothing');
my $filtered = $stage->stream('/filtered?channel=room:1', @stream);
is_deeply([$stage->seen($filtered, 'room:1')], ['first', 'second', 'third'], 'settings for clients have no effect on it');
is(admin('?channel=room:1', @stream, method => 'HEAD')->{header}{'content-type'}[0], 'text/event-stream', 'HEAD says so, too');
request(port => $stage->port, path => '/admin?channel=room:1&only=history', method => 'DELETE');
my ($old) = $live->{events}[0]{id};
my $lost = SSE::Client->new(port => $stage->port, path => '/admin?channel=room:1', headers => [Accept => 'text/event-stream', 'Last-Event-ID' => $old]);
ok(wait_for(sub { $lost->events('sse.gap') }), 'lost events are reported, whatever sse_gap_event is');
for my $case (['', 'the argument channel is missing'], ['?channel=sse.status', qr/\w/], ['?channel=a%0ab', qr/\w/], ['?channel=', qr/\w/]) {
    my $answer = admin($case->[0], @stream);
    is($answer->{status}, 400, "a stream of '$case->[0]' is rejected");
    like($answer->{json}{error}, ref $case->[1] ? $case->[1] : qr/\A\Q$case->[1]\E\z/, "the error says: $answer->{json}{error}");
}

# Publishing.
my $said = admin('?channel=room:3&event=price', body => '12.50');
is($said->{status}, 201, 'POST publishes an event');
is_deeply([sort keys %{ $said->{json} }], [qw(channel id subscribers)], 'the response is that of sse_publish');
my $third = $stage->stream('/admin?channel=room:3', @stream);
ok(wait_for(sub { $third->events('price') }), 'the event arrives');
is($third->{events}[0]{id}, $said->{json}{id}, 'with the id of the response');
is(admin('?channel=user:%C3%A4', body => 'x')->{json}{channel}, "user:\xe4", 'a channel name is percent-decoded');
is(admin('?channel=room:3', path => '/other', body => 'x')->{json}{subscribers}, 0, 'another location publishes in another hub');
is(scalar @{ admin('?channel=room:3', headers => ['Content-Type' => 'text/event-stream'], body => "data: 1\n\ndata: 2\n\n")->{json}{ids} }, 2, 'a batch can be published');
is(admin('?channel=room:3&finish=1', body => '')->{json}{finished}, 1, 'a run can be finished');
my %key = (headers => ['Idempotency-Key' => 'once'], body => 'x');
is(admin('?channel=room:3', %key)->{json}{id}, admin('?channel=room:3', %key)->{json}{id}, 'keys are honoured');
for my $case (['', 'the argument channel is missing'], ['?channel=sse.presence', qr/\w/], ['?channel=%ff', qr/\w/], ['?channel=room:3&event=error', qr/\w/]) {
    my $answer = admin($case->[0], body => 'x');
    is($answer->{status}, 400, "POST '$case->[0]' is rejected");
    like($answer->{json}{error}, ref $case->[1] ? $case->[1] : qr/\A\Q$case->[1]\E\z/, "the error says: $answer->{json}{error}");
}
my $before = admin('?channel=room:3')->{json};
for my $headers (['Sec-Fetch-Site' => 'cross-site'], [Origin => 'http://evil.example'], [Origin => 'null']) {
    is(admin('?channel=room:3', headers => $headers, body => 'x')->{status}, 403, "$headers->[0] $headers->[1] is rejected");
}
is(admin('?channel=room:3', path => '/read', body => 'x')->{status}, 403, 'limit_except can forbid changes');
is(admin('', path => '/read')->{status}, 200, 'and allow the rest');
is_deeply(admin('?channel=room:3')->{json}, $before, 'no rejected request publishes anything');
my $put = admin('?channel=room:3', method => 'PUT', body => 'x');
is("$put->{status} $put->{header}{allow}[0]", '405 GET, HEAD, POST, DELETE', 'PUT is not allowed');

# The channels with the most streams and events.
$_->close for $live, $filtered, $lost, $third;
ok(wait_for(sub { $stage->status->{subscribers} == 0 }), 'all streams have ended');
$stage->publish("rank:$_", (1) x (3 * $_)) for 1 .. 9;
my @streams = map { my $channel = "rank:$_"; map { $stage->stream("/s/$channel") } 1 .. 6 - $_ } 1 .. 5;
my $ranked = sub ($query) { [map { $_->{channel} =~ s/rank://r } @{ admin("?prefix=rank:&$query")->{json}{channels} }] };
is_deeply($ranked->('sort=events'), [reverse 1 .. 9], 'channels are sorted by events');
is_deeply($ranked->('sort=events&limit=3'), [9, 8, 7], 'up to a limit');
is_deeply($ranked->('sort=subscribers&limit=5'), [1 .. 5], 'channels are sorted by streams');
is_deeply($ranked->('sort=subscribers'), [1 .. 9], 'and then by name');
is(admin('?sort=events')->{json}{next}, undef, 'there is no next page');
my @most = @{ admin('?sort=events&limit=2')->{json}{channels} };
is_deeply($most[0], { channel => 'rank:9', subscribers => 0, events => 27, last_id => $most[0]{last_id} }, 'with all their properties');
for my $case (['?sort=name', 'sort must be subscribers or events'], ['?sort=events&from=0', 'sort and from cannot be combined'], ['?sort=', 'sort must be subscribers or events']) {
    my $answer = admin($case->[0]);
    is("$answer->{status} $answer->{json}{error}", "400 $case->[1]", "GET $case->[0] is rejected");
}
# More channels than one page of the listing has.
$stage->publish("many:$_", 1) for 1 .. 1200;
$stage->publish('many:700', 2);
is_deeply([map { $_->{channel} } @{ admin('?prefix=many:&sort=events&limit=3')->{json}{channels} }], ['many:700', 'many:1', 'many:10'],
    'channels of all pages are compared');

is($stage->status->{refused}{forbidden}, 3, 'rejected publishes are counted') or diag explain $stage->status->{refused};
$_->close for @streams;
ok(wait_for(sub { SSE::Cluster::slurp($stage->cluster->dir . '/admin.log') =~ /^GET room:1 \d+ drain$/m }), 'the access log has the stream');
my $log = SSE::Cluster::slurp($stage->cluster->dir . '/admin.log');
like($log, qr/^POST room:3 0 -$/m, 'and the publish');
like($log, qr/^GET - - -$/m, 'and requests that name no channel');
$stage->ends_cleanly;

subtest 'with Redis' => sub {
    my $redis = SSE::Redis->start;
    for my $source (qw(pubsub stream)) {
        my $with = SSE::RedisStage->new(redis => $redis->url, hub => "redis_source $source;", server => 'location = /admin { sse_admin; }');
        ok($with->wait_up, "$source: Redis is connected");
        my $listens = $with->stream("/admin?channel=$source:1", @stream);
        my $answer  = request(port => $with->port, path => "/admin?channel=$source:1", body => 'through Redis');
        is($answer->{status}, 201, "$source: POST publishes");
        ok($listens->wait_data('through Redis'), "$source: the event arrives");
        is(($listens->events('message'))[0]{id}, $answer->{json}{id}, "$source: with the id of the response");
        my $reserved = '/admin?channel=' . { pubsub => '__keyevent@0__:set', stream => 'sse:{sse}:clock' }->{$source};
        is(request(port => $with->port, path => $reserved, @stream)->{status}, 400, "$source: a reserved channel has no stream");
        is(request(port => $with->port, path => $reserved, body => 'x')->{status}, 400, "$source: and cannot be published to");
        $listens->close;
        $with->ends_cleanly;
    }
};
done_testing();

sub admin ($query = '', %options) { return request(port => $stage->port, %options, path => ($options{path} // '/admin') . $query) }
