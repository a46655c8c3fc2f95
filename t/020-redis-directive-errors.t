# Directives about Redis: nginx refuses invalid ones with a message that never contains a password, and
# accepts valid ones whether or not Redis is reachable.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Cluster;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Nginx qw(free_port);
use SSE::RedisStage;

my $somewhere = 'redis redis://127.0.0.1:6399;';
my @wrong = (
    ['redis;',                                               qr/invalid number of arguments.*"redis"/],
    ['redis redis://127.0.0.1 redis://127.0.0.2;',           qr/invalid number of arguments.*"redis"/],
    ["$somewhere $somewhere",                                qr/"redis".*duplicate|duplicate.*"redis"/],
    ['redis 127.0.0.1:6379;',                                qr/"redis"/],
    ['redis http://127.0.0.1:6379;',                         qr/"redis"/],
    ['redis redis://;',                                      qr/"redis"/],
    ['redis redis://127.0.0.1:0;',                           qr/"redis"/],
    ['redis redis://127.0.0.1:65536;',                       qr/"redis"/],
    ['redis redis://127.0.0.1:port;',                        qr/"redis"/],
    ['redis redis://127.0.0.1/messages;',                    qr/"redis"/],
    ['redis redis://127.0.0.1/-1;',                          qr/"redis"/],
    ['redis redis://[::1;',                                  qr/"redis"/],
    ['redis redis+unix://;',                                 qr/"redis"/],
    ['redis redis+unix://relative/path;',                    qr/"redis"/],
    ['redis redis+sentinel://127.0.0.1:26379;',              qr/"redis"/],
    ['redis redis+sentinel://127.0.0.1:26379,/events;',      qr/"redis"/],
    ['redis redis+cluster://;',                              qr/"redis"/],
    ['redis redis+cluster://127.0.0.1:7000/3;',              qr/"redis"/],
    ['redis redis://:hidden-word@127.0.0.1:none;',           qr/"redis"/],
    ['redis http://user:hidden-word@127.0.0.1;',             qr/"redis"/],
    ['redis redis+sentinel://:hidden-word@127.0.0.1:26379;', qr/"redis"/],
    ['redis redis://user:hidden-word;',                      qr/"redis"/],
    ["$somewhere redis_source queue;",                       qr/"queue".*"redis_source"|"redis_source".*"queue"/],
    ["$somewhere redis_source;",                             qr/invalid number of arguments.*"redis_source"/],
    ["$somewhere redis_prefix sse;",                         qr/redis_prefix/],
    ["$somewhere redis_prefix 'a{b';",                       qr/redis_prefix/],
    ["$somewhere redis_prefix 'a}b';",                       qr/redis_prefix/],
    ["$somewhere redis_prefix 'a\tb';",                      qr/redis_prefix/],
);
for my $case (@wrong) {
    my ($lines, $said) = @$case;
    my ($status, $text) = check("sse_hub default { $lines }", 'location /s { sse_stream messages; }');
    my ($emerg) = $text =~ /(\[emerg\].*)/;
    isnt($status, 0, "refused: " . $lines =~ s/\t/<tab>/r);
    like($emerg // $text, $said, 'the message names the directive');
    like($emerg // $text, qr/nginx\.conf:\d+/, 'the message has the line');
    unlike($text, qr/hidden-word/, 'the message does not contain the password');
}
my ($status, $text) = check("sse_hub default { $somewhere redis_source stream; }", 'location /s { sse_stream messages* pattern; }');
isnt($status, 0, 'a pattern is rejected with redis_source stream');
like($text, qr/\[emerg\].*pattern/, 'the message names the directive');
($status, $text) = check("sse_hub default { } sse_hub other { $somewhere redis_source stream; }",
    'location /s { sse_stream messages* pattern hub=other; }');
isnt($status, 0, 'a pattern is rejected in any hub with redis_source stream');

# Valid directives, with nothing at the address.
my @right = ('redis redis://127.0.0.1:6399', 'redis redis://localhost', 'redis redis://127.0.0.1:6399/15',
    'redis redis://:hidden-word@127.0.0.1:6399', 'redis redis://user:hidden-word@127.0.0.1:6399/2', 'redis redis://[::1]:6399',
    'redis redis://no-such.invalid:6399', 'redis rediss://127.0.0.1:6399', 'redis redis+unix:///no/such/socket',
    'redis redis+sentinel://127.0.0.1:1,127.0.0.1:2/events', 'redis redis+sentinel://127.0.0.1:1/events/3',
    'redis redis+cluster://127.0.0.1:1,127.0.0.1:2', "$somewhere redis_source pubsub", "$somewhere redis_source stream",
    "$somewhere redis_prefix shop:", "$somewhere redis_prefix ''");
for my $lines (@right) {
    ($status, $text) = check("sse_hub default { $lines; }", 'location /s { sse_stream messages; }');
    is($status, 0, "accepted: $lines") or diag($text);
    unlike($text, qr/hidden-word/, 'the password is not in the output');
}

# The password appears nowhere, and a changed address creates a new hub.
my $stage = SSE::RedisStage->new(redis => 'redis://app:hidden-word@127.0.0.1:' . free_port(), away => 1);
my $nginx = $stage->cluster;
my $old   = SSE::Client->new(port => $stage->port, path => '/on/news', reconnect => 1);
ok($old->wait_open, 'a stream opens without a Redis');
ok(wait_for(sub { $stage->lines }, 10), 'the log reports that Redis is not reachable');
like(($stage->lines)[0], qr/127\.0\.0\.1:\d+/, 'with its address');
my $http = $nginx->{http};
my $port = free_port();
$nginx->configure(http => $http =~ s/127\.0\.0\.1:\d+/127.0.0.1:$port/r);
ok($nginx->reload, 'nginx reloads with another address');
my @new = $nginx->error_log =~ /$SSE::Stage::NEW_HUB/g;
is(scalar @new, 1, 'the new hub is logged once') or diag(join "\n", @new);
unlike($nginx->error_log, qr/hidden-word/, 'the log does not contain the password');
unlike(request(port => $stage->port, path => "/status$_")->{body}, qr/hidden-word|$port/, 'the status does not contain the password')
    for '', '?format=prometheus', '?format=html';
unlike($stage->post('news', 'x')->{body}, qr/hidden-word|$port/, 'no response contains the password');

$stage->ends_cleanly;
done_testing();

sub check ($http, $server) { return SSE::Cluster->new(http => $http, server => $server)->check_config }
