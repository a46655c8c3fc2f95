# sse_user, and DELETE of sse_admin with a user: all streams of the user end, in all processes, and its tokens can be
# revoked.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Backend;
use SSE::HTTP qw(request);
use SSE::HTTP2;
use SSE::Loop qw(serve_for wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;
use SSE::Token qw(token $SECRET);

plan skip_all => 'nginx is built without auth_request' if !has_module('http_auth_request');

my $listen = has_module('http_v2') ? 'listen 127.0.0.1:%%PORT_h2%% http2;' : '';
my $checks = SSE::Backend->new('http10');
my $check_port = $checks->port;
my $stage = SSE::Stage->new(
    workers => 4,
    connections => 4096,
    listen  => ' backlog=1024',
    http    => <<'EOF_HTTP',
        sse_hub default { history off; }
        sse_hub other { zone 1m; max_event_size 4k; }
        sse_jwt_key %%DIR%%/secret secret;
        sse_retry 100ms;
        sse_drain 3s;
        map $who $mapped { "" ""; default "mapped $who"; }
EOF_HTTP
    server => <<"EOF_CONFIG",
        $listen
        location = /jwt    { sse_jwt bearer; sse_stream news; }
        location = /two    { sse_jwt bearer; sse_stream news sport; }
        location = /lean   { sse_jwt bearer; sse_lean on; sse_stream news; }
        location = /other  { sse_jwt bearer; sse_stream news hub=other; }
        location = /many   { sse_drain 10m; sse_user \$arg_user; sse_stream news; }
        location = /named  { sse_user \$arg_user; sse_stream news; }
        location = /nobody { sse_jwt bearer; sse_user ""; sse_stream news; }
        location = /open   { sse_stream news; }
        location = /asked  { sse_jwt bearer; auth_request /who; auth_request_set \$who \$upstream_http_x_user; sse_user \$who; sse_stream news; }
        location = /asked/p { sse_jwt bearer; auth_request /who; auth_request_set \$who \$upstream_http_x_user; sse_user \$who; sse_publish news; }
        location = /mapped { sse_jwt bearer; auth_request /who; auth_request_set \$who \$upstream_http_x_user; sse_user \$mapped; sse_stream news; }
        location = /who    { internal; proxy_pass http://127.0.0.1:%%PORT%%/user; }
        location = /user   { add_header X-User carol; return 204; }
        location = /issuers { sse_jwt bearer; sse_jwt_require iss=a iss=b; sse_stream news; }
        location = /p      { sse_jwt bearer; sse_publish news; }
        location = /slow   { auth_request /check; sse_user \$arg_user; sse_stream news; }
        location = /check  { internal; proxy_pass http://127.0.0.1:$check_port; }
        location = /admin  { sse_admin; }
        location = /status { sse_status; }
EOF_CONFIG
    files => { secret => $SECRET },
);
my $nginx = $stage->cluster;

# All streams of the user, on all channels of the hub.
my %open = map { $_ => $stage->stream("/$_", headers => [bearer('alice')]) } qw(jwt two lean other nobody);
$open{bob}   = $stage->stream('/jwt', headers => [bearer('bob')]);
$open{named} = $stage->stream('/named?user=alice');
$open{guest} = $stage->stream('/named');
$open{open}  = $stage->stream('/open');
my $answer = disconnect('alice');
is($answer->{status}, 202, 'a user is disconnected');
is_deeply($answer->{json}, { user => 'alice' }, 'the response names the user');
my @alice = qw(jwt two lean named);
ok(wait_for(sub { !grep { $open{$_}{state} ne 'ended' } @alice }, 10), 'all streams of the user end');
is($open{$_}{ends}[0]{how}, 'abrupt', "$_: so that the client returns") for @alice;
ok($open{$_}->is_open, "$_: another stream stays open") for grep { my $name = $_; !grep { $_ eq $name } @alice } sort keys %open;
ok(wait_for(sub { $stage->status->{streams_ended}{admin} >= 4 }, 10), 'the status counts them');
like($nginx->error_log, qr/\[notice\] .*sse: user "alice" of hub "default" disconnected/, 'it is logged');
is(opened('/jwt', bearer('alice')), 200, 'the user can return with the same token');
$_->close for values %open;

# Requests that are refused.
is(disconnect('alice', "&$_")->{status}, 400, "refused: $_") for 'channel=news', 'only=streams', 'revoke=soon', 'revoke=0s', 'revoke=8d';
is(disconnect('')->{status}, 400, 'refused: an empty user');
is(request(port => $stage->port, method => 'DELETE', path => '/admin?user=a', headers => [Origin => 'https://evil.example'])->{status}, 403,
    'refused: another site');

# Several issuers.
my $of_a = $stage->stream('/issuers', headers => [bearer('eve', iss => 'a')]);
my $of_b = $stage->stream('/issuers', headers => [bearer('eve', iss => 'b')]);
is(disconnect('a%20eve')->{status}, 202, 'with several issuers, the name has both');
ok(wait_for(sub { $of_a->{state} eq 'ended' }, 10), 'the user of one issuer is disconnected');
ok($of_b->is_open, 'and not that of the other');
$of_b->close;

# A thousand streams, in four processes, one of which is stopped; the others are about to quit.
my @http2 = map { SSE::HTTP2->new(port => $nginx->port('h2')) } $listen ? (1 .. 4) : ();
my @plain = map { SSE::Client->new(port => $stage->port, path => '/many?user=many') } 1 .. (@http2 ? 600 : 1000);
my @many  = map { my $connection = $_; map { $connection->request('/many?user=many') } 1 .. 100 } @http2;
ok(wait_for(sub { !grep { !$_->is_open } @plain }, 30), 'many streams of a user are open');
ok(wait_for(sub { !grep { ($_->{status} // 0) != 200 } @many }, 30), 'over HTTP/2, too');
is(@plain + @many, 1000, 'they are a thousand');
my %on;
$on{ $_->worker }++ for @plain;
is(scalar keys %on, 4, 'all processes have some');
my $admin = $stage->status->{streams_ended}{admin};
my ($stopped) = $nginx->workers;
$nginx->pause($stopped);
my %old = map { $_ => 1 } $nginx->workers;
kill 'HUP', $nginx->pid;
ok(wait_for(sub { 4 == grep { !$old{$_} } $nginx->workers }, 20), 'a reload, while a process is stopped');
disconnect('many');
ok(wait_for(sub { !grep { $_->is_open && $_->worker != $stopped } @plain }, 20), 'the streams of all others end');
my @left = grep { $_->is_open } @plain;
is(scalar @left, $on{$stopped}, 'those of the stopped process stay open');
kill 'CONT', $stopped;
ok(wait_for(sub { !grep { $_->is_open } @left }, 10), 'they end when it continues');
ok(wait_for(sub { !grep { !defined $_->{reset} } @many }, 10), 'so do all streams over HTTP/2');
is($stage->status->{streams_ended}{admin} - $admin, 1000, 'because of the disconnection, and not of the reload');
$_->drop for @http2;

# A process that is killed at once.
for my $round (1 .. 3) {
    my @streams = map { $stage->stream('/named?user=killed', reconnect => 0) } 1 .. 20;
    my $answer  = request(port => $stage->port, method => 'DELETE', path => '/admin?user=killed');
    kill 'KILL', $answer->{header}{'x-worker'}[0];
    is($answer->{status}, 202, "round $round: a process disconnects a user and is killed");
    ok(wait_for(sub { !grep { $_->{state} ne 'ended' } @streams }, 10), "round $round: all streams end");
}
$nginx->allow(qr/exited on signal 9/);
ok(wait_for(sub { $nginx->workers == 4 }, 10), 'the processes are replaced');

# A request whose access is being checked while its user is disconnected.
my $waiting = SSE::Client->new(port => $stage->port, path => '/slow?user=late');
ok(my $check = $checks->request, 'access is being checked');
disconnect('late');
disconnect('somebody');
grant($check);
ok(wait_for(sub { $waiting->{state} eq 'ended' }, 10), 'the stream is not opened');
is($waiting->{status}, 200, 'the client is asked to return');
cmp_ok($waiting->{parser}{retry}, '<=', 1000, 'soon');
my $unharmed = SSE::Client->new(port => $stage->port, path => '/slow?user=unharmed');
ok($check = $checks->request, 'access of another one is being checked');
disconnect('late');
grant($check);
ok(wait_for(sub { $unharmed->is_open }, 10), 'the stream of another user is opened');
$unharmed->close;
$checks->drop;

# Revoked tokens.
my $before = token({ sub => 'carol', iat => time - 10 });
my $undated = token({ sub => 'carol' });
my $carol  = $stage->stream('/jwt', headers => [Authorization => "Bearer $before"]);
$answer = disconnect('carol', '&revoke=1h');
is($answer->{status}, 202, 'tokens are revoked');
cmp_ok(abs($answer->{json}{revoked_until} - time - 3600), '<', 60, 'the response says until when');
my $until = $answer->{json}{revoked_until};
is(disconnect('carol', '&revoke=1m')->{json}{revoked_until}, $until, 'a shorter revocation leaves that time as it is');
ok(wait_for(sub { $carol->{state} eq 'ended' }, 10), 'streams of the user end');
for my $round ('now', 'after a reload') {
    is(opened('/jwt', Authorization => "Bearer $before"), 401, "$round: an older token is refused");
    is(opened('/jwt', Authorization => "Bearer $undated"), 401, "$round: so is one without a time");
    is(publish($before), 401, "$round: also by a publisher");
    is(opened('/other', Authorization => "Bearer $before"), 200, "$round: another hub accepts it");
    is(opened('/jwt', bearer('carol', iat => time + 2)), 200, "$round: a new token is accepted");
    is(opened('/jwt', bearer('dave', iat => time - 10)), 200, "$round: so is that of another user");
    $nginx->reload;
}
cmp_ok($stage->status->{tokens_refused}{revoked}, '>=', 4, 'the status counts refusals');

# The user is known only after auth_request.
is(opened('/asked', Authorization => "Bearer $before"), 401, 'a token is refused whose user another check determines');
is(publish($before, '/asked/p'), 401, 'also to a publisher');
is(opened('/asked', bearer('carol', iat => time + 2)), 200, 'a new one is accepted');
my $mapped = $stage->stream('/mapped', headers => [bearer('somebody', iat => time + 2)]);
disconnect('mapped%20carol');
ok(wait_for(sub { $mapped->{state} eq 'ended' }, 10), 'a user that depends on the other check is disconnected');
like($nginx->error_log, qr/sse: token refused: revoked, sub carol/, 'they are logged');
disconnect('frank', '&revoke=2s');
is(opened('/jwt', bearer('frank', iat => time - 10)), 401, 'a short revocation');
ok(wait_for(sub { serve_for(0.2); opened('/jwt', bearer('frank', iat => time - 10)) == 200 }, 10), 'ends');

$stage->ends_cleanly;
done_testing();

sub grant ($check) {
    $check->head(Status => '204 No Content');
    $check->finish;
    return;
}

sub bearer ($sub, %claims) { return (Authorization => 'Bearer ' . token({ sub => $sub, %claims })) }

sub disconnect ($user, $more = '') {
    return request(port => $stage->port, method => 'DELETE', path => "/admin?user=$user$more");
}

sub publish ($token, $path = '/p') {
    return request(port => $stage->port, path => $path, body => 'x', headers => [Authorization => "Bearer $token"])->{status};
}

sub opened ($path, @headers) {
    my $client = SSE::Client->new(port => $stage->port, path => $path, headers => \@headers);
    wait_for(sub { $client->{status} || $client->{state} !~ /waiting|connecting/ }, 10);
    $client->close;
    return $client->{status};
}
