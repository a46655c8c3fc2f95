# nginx' own access rules on all three locations.

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

# A password.
is(status('/basic/s'), 401, 'a stream behind a password is refused without it');
is(status('/basic/s', headers => \@wrong), 401, 'and with a wrong one');
my $stream = $stage->stream('/basic/s', headers => \@right);
is($stream->{status}, 200, 'and served with the right one');
is(status('/basic/p', body => 'x'), 401, 'so is a publisher refused');
is(status('/basic/p', body => 'let in', headers => \@right), 201, 'and let in');
ok($stream->wait_data('let in'), 'and the event arrives');
is_deeply([$stream->data], ['let in'], 'and nothing that was refused');
is(status('/basic/status'), 401, 'the status is refused');
is(status('/basic/status', headers => \@right), 200, 'and shown');

# Addresses.
is(status('/denied/s'), 403, 'deny holds for a stream');
is(status('/denied/p', body => 'x'), 403, 'for a publisher');
is(status('/denied/status'), 403, 'and for the status');
is(status('/granted/p', body => 'x'), 201, 'allow lets a publisher in');
my $granted = $stage->stream('/granted/s');
is($granted->{status}, 200, 'and a stream');
$_->close for $stream, $granted;

# The number of connections: a stream counts for as long as it lasts, and no longer.
my @three = map { $stage->stream('/three') } 1 .. 3;
is(scalar(grep { $_->is_open } @three), 3, 'limit_conn lets three streams in');
my $fourth = SSE::Client->new(port => $stage->port, path => '/three');
ok(wait_for(sub { $fourth->{state} ne 'waiting' && $fourth->{state} ne 'connecting' }, 5), 'a fourth is answered');
isnt($fourth->{state}, 'open', 'but not let in');
$three[0]->close;
ok(wait_for(sub { let_in() }, 5), 'it is let in when one of the three has gone');

# The number of requests.
my @answers = map { status('/seldom', body => 'x') } 1 .. 4;
ok((grep { $_ == 201 } @answers), 'limit_req lets a publisher in');
ok((grep { $_ == 503 } @answers), 'and holds it back when it comes too often');

SKIP: {
    skip 'nginx is built without auth_request', 2 if !$auth_request;
    my $asked = $stage->stream('/asks');
    is($asked->{status}, 200, 'auth_request lets a stream in');
    is(status('/asks-in-vain'), 403, 'or does not');
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
