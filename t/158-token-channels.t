# The channels that a token allows (sse_jwt_channels), and channels that a token determines.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Stage;
use SSE::Token qw(token $SECRET);

my $stage = SSE::Stage->new(
    http => <<'EOF_HTTP',
        sse_jwt_key %%DIR%%/secret secret;
        sse_jwt_set $tenant app tenant;
        log_format channels '$arg_n $sse_channel';
        access_log %%DIR%%/channels.log channels;
EOF_HTTP
    server => <<'EOF_CONFIG',
        location / {
            sse_jwt bearer optional;
            sse_jwt_channels channels;
            location = /user     { sse_stream "user:$sse_jwt_claim_sub" split=,; }
            location = /user-or-all { sse_stream "user:$sse_jwt_claim_sub" all; }
            location = /tenant   { sse_stream "$tenant/$sse_jwt_claim_sub"; }
            location = /literal  { sse_stream news,sport split=,; }
            location = /asked    { sse_stream $arg_c split=,; }
            location = /both     { sse_stream "user:${sse_jwt_claim_sub}" $arg_c split=,; }
            location = /globs    { sse_jwt_channels channels pattern; sse_stream $arg_c split=,; }
            location = /path     { sse_jwt_channels realm access "split= "; sse_stream $arg_c; }
            location = /patterns { sse_jwt_channels channels pattern; sse_stream $arg_c pattern; }
            location = /names-only { sse_stream $arg_c pattern; }
            location = /user-pattern { sse_stream "user:$sse_jwt_claim_sub:*" pattern; }
            location = /unchecked { sse_jwt_channels off; sse_stream $arg_c; }
            location = /p/asked  { sse_publish $arg_c; }
            location = /p/user   { sse_publish "user:$sse_jwt_claim_sub"; }
            location = /feed     { sse_jwt bearer; sse_status; }
        }
EOF_CONFIG
    files => { secret => $SECRET },
);

my $opened = 0;

# Each row: location, arguments, claims, status, and the channels of the stream.
my @rows = (
    ['/user',   '', { sub => 'bob' },              200, 'user:bob'],
    ['/user',   '', { sub => 'bob,admin-secret' }, 200, 'user:bob,admin-secret'],
    ['/user',   '', { sub => '' },                 403],
    ['/user',   '', {},                            403],
    ['/user',   '', undef,                         401],
    ['/user-or-all', '', undef,                    200, 'all'],
    ['/user-or-all', '', { sub => 'bob' },         200, 'user:bob,all'],
    ['/tenant', '', { sub => 'bob', app => { tenant => 'acme' } }, 200, 'acme/bob'],
    ['/tenant', '', { sub => 'bob', app => {} },   403],
    ['/tenant', '', { sub => 'bob', app => { tenant => ['acme'] } }, 403],
    ['/literal', '', {},                           200, 'news,sport'],
    ['/literal', '', undef,                        200, 'news,sport'],
    ['/asked',  'a', undef,                        401],
    ['/asked',  'a', {},                           403],
    ['/asked',  'a', { channels => 'a' },          200, 'a'],
    ['/asked',  'a', { channels => ['b', 'a'] },   200, 'a'],
    ['/asked',  'a,b', { channels => ['b', 'a'] }, 200, 'a,b'],
    ['/asked',  'a,c', { channels => ['b', 'a'] }, 403],
    ['/asked',  '',  { channels => ['a'] },        403],
    ['/asked',  '',  undef,                        401],
    ['/asked',  'a', { channels => [] },           403],
    ['/asked',  'a', { channels => ['a', 1] },     403],
    ['/asked',  'a', { channels => { a => 1 } },   403],
    ['/asked',  'a', { channels => 'a b' },        403],
    ['/asked',  '*', { channels => ['*'] },        200, '*'],
    ['/asked',  'a', { channels => ['*'] },        403],
    ['/asked',  'room:[x]', { channels => ['room:[x]'] }, 200, 'room:[x]'],
    ['/asked',  'room:x', { channels => ['room:[x]'] },   403],
    ['/asked',  'a,b', { channels => ['a,b'] },    403],
    ['/asked',  'sse.presence', { channels => ['sse.presence'] }, 400],
    ['/both',   'a', { sub => 'bob', channels => ['a'] }, 200, 'user:bob,a'],
    ['/both',   'b', { sub => 'bob', channels => ['a'] }, 403],
    ['/both',   '',  { sub => 'bob' },             200, 'user:bob'],
    ['/both',   'user:bob', { sub => 'bob', channels => [] }, 200, 'user:bob'],
    ['/both',   'a', undef,                        401],
    ['/globs',  'room:1,room:2', { channels => ['room:*'] }, 200, 'room:1,room:2'],
    ['/globs',  'rooms', { channels => ['room:*'] }, 403],
    ['/globs',  'a', { channels => ['*'] },        200, 'a'],
    ['/path',   'b', { realm => { access => 'a b' } }, 200, 'b'],
    ['/path',   'c', { realm => { access => 'a b' } }, 403],
    ['/path',   'a', { realm => ['access'] },      403],
    ['/patterns', 'room:*', { channels => ['room:*'] }, 200, 'room:*'],
    ['/patterns', 'room:1:*', { channels => ['room:*'] }, 200, 'room:1:*'],
    ['/patterns', '*', { channels => ['room:*'] }, 403],
    ['/patterns', 'roo?:*', { channels => ['room:*'] }, 403],
    ['/patterns', '[r]oom:*', { channels => ['room:*'] }, 403],
    ['/patterns', 'a?', { channels => ['*'] },     200, 'a?'],
    ['/names-only', 'a', { channels => ['a'] },    200, 'a'],
    ['/names-only', 'a*', { channels => ['a*'] },  403],
    ['/user-pattern', '', { sub => 'bob' },        200, 'user:bob:*'],
    ['/user-pattern', '', { sub => '*' },          403],
    ['/user-pattern', '', { sub => 'b[ob' },       403],
    ['/unchecked', 'a', undef,                     200, 'a'],
    ['/unchecked', '', undef,                      401],
);
for my $row (@rows) {
    my ($path, $asked, $claims, $status, $channels) = @$row;
    my ($got, $heard) = opened("$path?c=$asked", bearer($claims));
    my $shown = !defined $claims ? 'no token' : join ' ', map { "$_=" . shown($claims->{$_}) } sort keys %$claims;
    is($got, $status, "$path $asked with $shown: $status");
    is($heard, $channels, "its channels are $channels") if defined $channels;
}

my $answer = request(port => $stage->port, path => '/asked?c=b', headers => [bearer({ channels => ['a'] })]);
is_deeply($answer->{header}{'www-authenticate'}, ['Bearer error="insufficient_scope"'], 'the challenge names the reason');
$answer = request(port => $stage->port, path => '/asked?c=b');
is_deeply($answer->{header}{'www-authenticate'}, ['Bearer'], 'without a token, it has none');
is((opened('/asked?c=a', Authorization => 'Bearer x'))[0], 401, 'an invalid token names no channel');

is(published('/p/asked?c=a', { channels => ['a'] }), 201, 'a token allows a publisher its channels');
is(published('/p/asked?c=b', { channels => ['a'] }), 403, 'and no other');
is(published('/p/asked?c=a', undef), 401, 'a publisher without a token is refused');
is(published('/p/user', { sub => 'bob' }), 201, 'a token determines the channel of a publisher');
is(published('/p/user', {}), 403, 'without the claim there is none');
is(published('/p/user', undef), 401, 'nor without a token');
is((opened('/feed', bearer({}), Accept => 'text/event-stream'))[0], 200, 'the stream of figures is not a matter of channels');

$stage->ends_cleanly;
done_testing();

sub bearer ($claims) { return defined $claims ? (Authorization => 'Bearer ' . token($claims)) : () }

sub shown ($value) { return ref $value eq 'ARRAY' ? "[@$value]" : ref $value ? '{' . join(' ', %$value) . '}' : $value }

sub published ($path, $claims) {
    return request(port => $stage->port, path => $path, headers => [bearer($claims)], body => 'x')->{status};
}

# The status of the response, and the channels of the stream as nginx logs them.
sub opened ($path, @headers) {
    $path .= ($path =~ /\?/ ? '&' : '?') . 'n=' . ++$opened;
    my $client = SSE::Client->new(port => $stage->port, path => $path, headers => \@headers);
    wait_for(sub { $client->{status} || $client->{state} !~ /waiting|connecting/ }, 10);
    my $status = $client->{status};
    $client->close;
    my $channels;
    wait_for(sub { ($channels) = SSE::Cluster::slurp($stage->cluster->dir . '/channels.log') =~ /^$opened (.*)$/m }, 10);
    return ($status, $channels);
}
