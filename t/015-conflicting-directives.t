# Invalid parameter values and conflicting directives: nginx refuses to start, with file and line.
# Suspicious configurations that are accepted with a warning.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Cluster;

my @refused = (
    # The context, the configuration, and the expected message.
    [http => 'sse_max_age soon;', '"soon"'],
    [http => 'sse_max_age 0;',    '"0"'],
    [http => 'sse_max_age 0s;',   '"0s"'],
    [http => 'sse_max_age 1h spread=1m;', 'unknown parameter "spread=1m"'],
    [http => 'sse_max_age 1h jitter=some;', '"some"'],
    [http => 'sse_max_age 1h jitter=1m more;', 'invalid number of arguments in "sse_max_age"'],
    [http => 'sse_max_age 1h; sse_max_age 2h;', '"sse_max_age" directive is duplicate'],
    [http => 'sse_direct maybe;', '"maybe"'],
    [http => 'sse_direct on; sse_direct off;', '"sse_direct" directive is duplicate'],
    [http => 'sse_max_subscribers some;', '"some"'],
    [http => 'sse_max_subscribers -1;', '"-1"'],
    [http => 'sse_max_subscribers 4294967296;', '"4294967296"'],
    [http => 'sse_max_subscribers 1; sse_max_subscribers 2;', '"sse_max_subscribers" directive is duplicate'],
    [http => 'sse_name_events by_chance;', '"by_chance"'],
    [http => 'sse_name_events by_type; sse_name_events by_type;', '"sse_name_events" directive is duplicate'],
    [http => 'sse_cors;', 'invalid number of arguments in "sse_cors"'],
    [http => 'sse_cors credentials;', 'no origin in "sse_cors" directive'],
    [http => 'sse_cors * credentials;', '"*" cannot be used with "credentials"'],
    [http => 'sse_cors * https://a.example;', '"*" cannot be used with other origins'],
    [http => 'sse_cors https://a.example *;', '"*" cannot be used with other origins'],
    [http => 'sse_cors https://a.example https://b.example https://A.example:443;', 'duplicate origin "https://a.example"'],
    [http => 'sse_cors credentials https://a.example;', '"credentials"'],
    [http => 'sse_cors https://a.example credentials credentials;', '"credentials"'],
    [http => 'sse_cors a.example;', '"a.example"'],
    [http => 'sse_cors https://a.example/;', '"https://a.example/"'],
    [http => 'sse_cors https://*.example;', '"https://*.example"'],
    [http => 'sse_cors null;', '"null"'],
    [http => 'sse_cors off https://a.example;', '"off"'],
    [http => 'sse_cors *; sse_cors off;', '"sse_cors" directive is duplicate'],
    [http => 'sse_hub a { presence perhaps; }', '"perhaps"'],
    [http => 'sse_hub a { presence on; presence on; }', '"presence" directive is duplicate'],
    [http => 'sse_hub a { presence; }', 'invalid number of arguments in "presence"'],
    [http => 'presence on;', 'unknown directive "presence"'],
    [http => 'sse_hub a { sse_replay all; }', 'unknown directive "sse_replay"'],
    [main => 'sse_hub a { zone 4m; }', '"sse_hub" directive is not allowed here'],
    [main => 'sse_max_age 1h;', '"sse_max_age" directive is not allowed here'],
    [server => 'sse_status;', '"sse_status" directive is not allowed here'],
    [server => 'if ($arg_a) { sse_max_age 1h; }', '"sse_max_age" directive is not allowed here'],
    [server => 'location /s { if ($arg_a) { sse_stream a; } }', '"sse_stream" directive is not allowed here'],
    [server => 'location /s { sse_stream a hub=b hub=b; }', '"sse_stream" directive is duplicate'],
    [server => 'location /s { sse_stream a split=, split=,; }', '"sse_stream" directive is duplicate'],
    [server => 'location /s { sse_stream a hub=; }', '""'],
    [server => 'location /s { sse_stream ""; }', '""'],
    [server => 'location /p { sse_publish a event=b event=c; }', '"sse_publish" directive is duplicate'],
    [server => 'location /p { sse_publish a event=error; }', 'invalid type "error": '],
    [server => 'location /p { sse_publish sse.presence; }', 'invalid channel "sse.presence": channel names beginning with sse. are reserved'],
    [server => "location /p { sse_publish \"a\tb\"; }", 'invalid channel "a\tb": the channel name contains a control character'],
    [server => 'location /s { sse_stream ' . 'x' x 256 . '; }', 'the channel name is longer than 255 bytes'],
    [server => 'location /s { sse_stream ' . join(',', 1 .. 65) . ' split=,; }', 'there are more than 64 channel names'],
    [server => 'location /s { sse_stream ,, split=,; }', 'invalid channel ",,": no channel name is given'],

    # Two directives of a location that both handle its requests.
    [server => 'location /s { sse_stream a; sse_publish a; }', 'two directives of this location would answer its requests'],
    [server => 'location /s { sse_status; sse_stream a; }', 'two directives of this location would answer its requests'],
    [server => 'location /s { proxy_pass http://127.0.0.1; sse_stream a; }', 'two directives of this location would answer its requests'],
    [server => 'location /s { sse_stream a; proxy_pass http://127.0.0.1; }', 'another directive answers the requests of this location'],
    [server => 'location /p { sse_publish a; empty_gif; }', 'another directive answers the requests of this location'],
);

for my $case (@refused) {
    my ($where, $text, $said) = @$case;
    my ($status, $output) = checked($where => $text);
    my $shown = $text =~ s/(.{60}).+/$1.../r;
    ok($status != 0, "rejected: $shown");
    like($output, qr/\[emerg\] .*\Q$said\E.* in \S+nginx\.conf:\d+$/m, "and said why: $said") or diag($output);
}

# Warnings.
my ($status, $output) = checked(server => 'location /s { sse_stream a hubs=b; }');
is($status, 0, 'what looks like a parameter may be a channel');
like($output, qr/\[warn\] .*"hubs=b" is not a parameter and is used as a channel name in \S+nginx\.conf:\d+$/m, 'but nginx warns');

($status, $output) = checked(server => 'location /s { sse_stream a; sse_direct off; sse_lean on; }');
is($status, 0, 'sse_lean with sse_direct off is accepted');
like($output, qr/\[warn\] .*"sse_lean" has no effect with "sse_direct off" in \S+nginx\.conf:\d+$/m, 'nginx warns that it has no effect');
($status, $output) = checked(http => 'sse_lean on;', server => 'location /s { sse_stream a; sse_direct off; }');
unlike($output, qr/\[warn\]/, 'not if one of them is inherited');

# Valid configurations.
($status, $output) = checked(
    http   => 'sse_hub a { presence off; } sse_cors off; sse_max_age off;',
    server => 'location /s { sse_stream sse.presence user:$arg_a=b; sse_cors http://[::1]:8080 credentials; if ($arg_a) { return 204; } limit_except GET { deny all; } }',
);
is($status, 0, 'a valid configuration is accepted') or diag($output);
unlike($output, qr/\[(?:warn|emerg)\]/, 'without a message');

done_testing();

sub checked (%parts) {
    my $nginx = SSE::Cluster->new(%parts);
    return $nginx->check_config;
}
