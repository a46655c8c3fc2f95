# Lean streams and other modules that register for the end of a request: such a request is kept, or the
# module would be called too early.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(dynamic_modules);
use SSE::Stage;

my ($modules, $reason) = dynamic_modules(qw(ndk_http_module ngx_http_lua_module));
plan skip_all => "no Lua module (libnginx-mod-http-lua): $reason" if !$modules;

my $stage = SSE::Stage->new(
    workers => 1,
    main    => join(' ', map { "load_module $_;" } @$modules),
    http    => 'sse_lean on; sse_heartbeat off;',
    server  => <<'EOF_CONFIG',
        location = /plain   { sse_stream news; }
        location = /context { access_by_lua_block { ngx.ctx.seen = true } sse_stream news; }
        location = /sleep   { access_by_lua_block { ngx.sleep(0.01) } sse_stream news; }
        location = /status  { sse_status; }
EOF_CONFIG
);
my @clients;
for my $case (['/plain', 1, 0], ['/context', 1, 1], ['/sleep', 1, 2]) {
    my ($path, @wanted) = @$case;
    push @clients, $stage->stream($path);
    ok(wait_for(sub { "@{ given_back() }" eq "@wanted" }), "$path") or diag("lean, ordinary: @{ given_back() }");
}
$stage->publish('news', 'something');
ok($_->wait_data('something'), "$_->{path} receives its events") for @clients;

$stage->ends_cleanly;
done_testing();

# The numbers of lean streams and of requests that were kept.
sub given_back {
    my $lean = $stage->status->{lean};
    return [@$lean{qw(lean ordinary)}];
}
