# Streams work behind internal redirects and are rejected in subrequests.

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
is($mine->{status}, 200, 'X-Accel-Redirect leads to an internal stream');
is_deeply($mine->{header}{'content-type'}, ['text/event-stream'], 'Content-Type is that of the stream, not that of the application');
is_deeply($mine->{header}{'cache-control'}, ['no-cache, no-transform'], 'Cache-Control is that of the stream');
is($mine->{header}{'content-length'}, undef, 'the response has no Content-Length');
is($mine->header('set-cookie'), 'a=b', 'the cookie of the application is passed on');
$stage->publish('user.7', 'for seven');
$stage->publish('user.8', 'for eight');
$stage->publish('user.7', 'again');
ok($mine->wait_data('again'), 'events of that channel arrive');
is_deeply([$mine->data], ['for seven', 'again'], 'events of other channels do not arrive');
my $id = $mine->{last_event_id};
$mine->close;
$stage->publish('user.7', 'missed');
is_deeply([$stage->replayed('/login?user=7', 'user.7', last_event_id => $id)], ['missed'], 'Last-Event-ID of the client is used');

my $direct = request(port => $stage->port, path => '/internal/7');
is($direct->{status}, 404, 'the internal location returns 404 to clients');
my $other = $stage->stream('/missing');
is($other->{status}, 200, 'a stream behind try_files works');
$other->close;

# Subrequests.
my $lines = refusals();
my $page  = request(port => $stage->port, path => '/page', timeout => 5);
ok($page, 'a page that includes a stream by SSI is completed');
like($page->{body}, qr/\Abefore .* after\z/s, 'with the rest of the page');
unlike($page->{body}, qr/retry:|sse\.open/, 'without any output of the stream');
is(refusals() - $lines, 1, 'the error log has one line with the reason');
SKIP: {
    skip 'nginx is built without auth_request', 2 if !$auth;
    $lines = refusals();
    my $asked = request(port => $stage->port, path => '/asked', timeout => 5);
    ok($asked && $asked->{status} >= 400, 'auth_request to a stream denies access');
    is(refusals() - $lines, 1, 'the error log has a line about it');
}
ok(wait_for(sub { $stage->subscribers('news') == 0 }, 5), 'no stream is left behind');
is_deeply([$nginx->workers], \@workers, 'no worker has died');

$stage->ends_cleanly;
done_testing();

sub refusals { return scalar(() = $nginx->error_log =~ /a stream cannot be a subrequest/g) }
