# Streams behind internal redirects work; streams in subrequests are refused.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;

my $auth = has_module('http_auth_request') ? 'location = /asked { auth_request /plain; try_files /page.html =404; }' : '';
my $stage = SSE::Stage->new(
    http => <<'EOF_HTTP',
        server {
            listen 127.0.0.1:%%PORT_app%%;
            location / {
                default_type "text/html; charset=iso-8859-1";
                add_header X-Accel-Redirect /internal/$arg_user;
                add_header Cache-Control "max-age=60";
                add_header Set-Cookie "a=b";
                return 200 "a body that nobody sees";
            }
        }
EOF_HTTP
    server => <<"EOF_SERVER",
        location = /app { proxy_pass http://127.0.0.1:%%PORT_app%%/; }
        location /login { proxy_pass http://127.0.0.1:%%PORT_app%%/; }
        location ~ ^/internal/(.*)\$ { internal; sse_stream user.\$1; }
        location = /plain { sse_stream news; }
        location = /missing { try_files /nothing /plain; }
        location = /page { ssi on; ssi_types *; default_type text/html; try_files /page.html =404; }
        $auth
EOF_SERVER
    files => { 'page.html' => 'before <!--#include virtual="/plain" --> after' },
);
my $nginx   = $stage->cluster;
my @workers = $nginx->workers;

my $mine = $stage->stream('/login?user=7');
is($mine->{status}, 200, 'an application hands a client over to an internal stream by X-Accel-Redirect');
is_deeply($mine->{header}{'content-type'}, ['text/event-stream'], 'the type is that of a stream, not that of the application');
is_deeply($mine->{header}{'cache-control'}, ['no-cache, no-transform'], 'so is caching');
is($mine->{header}{'content-length'}, undef, 'and no length is left over');
is($mine->header('set-cookie'), 'a=b', 'while its cookie is passed on');
$stage->publish('user.7', 'for seven');
$stage->publish('user.8', 'for eight');
$stage->publish('user.7', 'again');
ok($mine->wait_data('again'), 'events of that channel arrive');
is_deeply([$mine->data], ['for seven', 'again'], 'and of no other');
my $id = $mine->{last_event_id};
$mine->close;
$stage->publish('user.7', 'missed');
is_deeply([$stage->replayed('/login?user=7', 'user.7', last_event_id => $id)], ['missed'], 'the id of the client is passed on');

my $direct = request(port => $stage->port, path => '/internal/7');
is($direct->{status}, 404, 'the internal location itself is not found');
my $other = $stage->stream('/missing');
is($other->{status}, 200, 'a stream behind try_files works');
$other->close;

# Subrequests.
my $lines = refusals();
my $page  = request(port => $stage->port, path => '/page', timeout => 5);
ok($page, 'a page that includes a stream ends');
like($page->{body}, qr/\Abefore .* after\z/s, 'with what else is on it');
unlike($page->{body}, qr/retry:|sse\.open/, 'and without any of the stream');
is(refusals() - $lines, 1, 'one line in the error log says why');
SKIP: {
    skip 'nginx is built without auth_request', 2 if !$auth;
    $lines = refusals();
    my $asked = request(port => $stage->port, path => '/asked', timeout => 5);
    ok($asked && $asked->{status} >= 400, 'auth_request to a stream is no permission');
    is(refusals() - $lines, 1, 'and is told in the log too');
}
ok(wait_for(sub { $stage->subscribers('news') == 0 }, 5), 'neither has left a stream behind');
is_deeply([$nginx->workers], \@workers, 'no worker has died');

$stage->ends_cleanly;
done_testing();

sub refusals { return scalar(() = $nginx->error_log =~ /subrequest/g) }
