# nginx's access control on streams, publishing, and the status.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use MIME::Base64 qw(encode_base64);
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;

my $auth_request = has_module('http_auth_request') ? <<'EOF_AUTH' : '';
    location = /asks       { sse_stream news; auth_request /allowed; }
    location = /asks-in-vain { sse_stream news; auth_request /forbidden; }
    location = /allowed    { return 204; }
    location = /forbidden  { return 403; }
EOF_AUTH

my $basic = 'auth_basic "stream"; auth_basic_user_file %%DIR%%/users;';
my $stage = SSE::Stage->new(
    http => 'limit_conn_zone $binary_remote_addr zone=conns:1m; limit_req_zone $binary_remote_addr zone=reqs:1m rate=1r/s;',
    server => <<"EOF_CONFIG",
        location = /basic/s       { $basic sse_stream news; }
        location = /basic/p       { $basic sse_publish news; }
        location = /basic/status  { $basic sse_status; }
        location = /denied/s      { deny all; sse_stream news; }
        location = /denied/p      { deny all; sse_publish news; }
        location = /denied/status { deny all; sse_status; }
        location = /granted/s     { allow 127.0.0.1; deny all; sse_stream news; }
        location = /granted/p     { allow 127.0.0.1; deny all; sse_publish news; }
        location = /three         { limit_conn conns 3; limit_conn_status 444; sse_stream news; }
        location = /seldom        { limit_req zone=reqs; sse_publish news; }
        $auth_request
EOF_CONFIG
    files => { users => "reader:{PLAIN}secret\n" },
);
my @right = (Authorization => 'Basic ' . encode_base64('reader:secret', ''));
my @wrong = (Authorization => 'Basic ' . encode_base64('reader:guess', ''));

# auth_basic.
is(status('/basic/s'), 401, 'a stream is rejected without a password');
is(status('/basic/s', headers => \@wrong), 401, 'a stream is rejected with a wrong password');
my $stream = $stage->stream('/basic/s', headers => \@right);
is($stream->{status}, 200, 'a stream is served with the right password');
is(status('/basic/p', body => 'x'), 401, 'a publish is rejected without a password');
is(status('/basic/p', body => 'let in', headers => \@right), 201, 'a publish is accepted with the right password');
ok($stream->wait_data('let in'), 'and the event arrives');
is_deeply([$stream->data], ['let in'], 'no rejected event arrives');
is(status('/basic/status'), 401, 'the status is rejected without a password');
is(status('/basic/status', headers => \@right), 200, 'the status is shown with the right password');

# allow and deny.
is(status('/denied/s'), 403, 'deny applies to a stream');
is(status('/denied/p', body => 'x'), 403, 'deny applies to a publisher');
is(status('/denied/status'), 403, 'deny applies to the status');
is(status('/granted/p', body => 'x'), 201, 'allow permits a publisher');
my $granted = $stage->stream('/granted/s');
is($granted->{status}, 200, 'allow permits a stream');
$_->close for $stream, $granted;

# limit_conn: a stream counts for as long as it is open.
my @three = map { $stage->stream('/three') } 1 .. 3;
is(scalar(grep { $_->is_open } @three), 3, 'limit_conn allows three streams');
my $fourth = SSE::Client->new(port => $stage->port, path => '/three');
ok(wait_for(sub { $fourth->{state} ne 'waiting' && $fourth->{state} ne 'connecting' }, 5), 'a fourth request is answered');
isnt($fourth->{state}, 'open', 'the fourth is rejected');
$three[0]->close;
ok(wait_for(sub { let_in() }, 5), 'a stream is accepted again when one of the three has ended');

# limit_req.
my @answers = map { status('/seldom', body => 'x') } 1 .. 4;
ok((grep { $_ == 201 } @answers), 'limit_req allows a publisher');
ok((grep { $_ == 503 } @answers), 'limit_req rejects a publisher that exceeds the rate');

SKIP: {
    skip 'nginx is built without auth_request', 2 if !$auth_request;
    my $asked = $stage->stream('/asks');
    is($asked->{status}, 200, 'auth_request permits a stream');
    is(status('/asks-in-vain'), 403, 'auth_request denies a stream');
}

$stage->ends_cleanly;
done_testing();

sub status ($path, %options) {
    my $answer = request(port => $stage->port, path => $path, %options);
    return $answer ? $answer->{status} : 'none';
}

sub let_in {
    my $client = SSE::Client->new(port => $stage->port, path => '/three');
    wait_for(sub { $client->{state} ne 'waiting' && $client->{state} ne 'connecting' }, 5);
    my $open = $client->is_open;
    $client->close;
    return $open;
}
