# A body filter that sets no flag and does not change the first bytes of a stream is bypassed, unless
# sse_direct is off.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use File::Temp;
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Nginx;
use SSE::Stage;

my ($source, $build) = @ENV{qw(NGINX_SOURCE_DIR NGINX_BUILD_DIR)};
plan skip_all => 'NGINX_SOURCE_DIR and NGINX_BUILD_DIR do not name a configured nginx' if !-d ($source // '') || !-d ($build // '');
plan skip_all => 'there is no C compiler' if !`cc --version 2>/dev/null`;

my $dir  = File::Temp->newdir;
my $file = compile();
my $why  = SSE::Nginx::refusal($file);
plan skip_all => "the tree is not that of this nginx: $why" if $why;

my $stage = SSE::Stage->new(
    workers => 1,
    main    => "load_module $file;",
    http    => 'sse_open_event off;',
    server  => <<'EOF_SERVER',
        location = /direct   { sse_stream news; }
        location = /filtered { sse_stream news; sse_direct off; }
        location = /lean     { sse_stream news; sse_direct off; sse_lean on; }
EOF_SERVER
);
my %streams = map { $_ => $stage->stream("/$_") } qw(direct filtered lean);
$stage->publish(news => 'a quick query', 'quiet ' x 20_000);
for my $name (sort keys %streams) {
    my $events = $streams{$name}{events};
    ok(wait_for(sub { @$events == 2 }), "$name: the events arrive");
    my $expected = $name eq 'direct' ? 'q' : 'Q';
    is($events->[0]{data}, "a ${expected}uick ${expected}uery", "$name: " . ($name eq 'direct' ? 'the filter is bypassed' : 'the filter sees the event'));
    ok($events->[1]{data} eq "${expected}uiet " x 20_000, "$name: a large event as well");
}
like($stage->cluster->error_log, qr/\[warn\].*"sse_lean" has no effect with "sse_direct off" in \S+nginx\.conf:\d+/,
    'sse_lean together with sse_direct off is reported');

$stage->ends_cleanly;
done_testing();

# Compiles the filter, which replaces each q with Q, as a module for this nginx.
sub compile {
    my $code = do { local $/; <DATA> };
    SSE::Cluster::write_file("$dir/filter.c", $code);
    my @include = map { "-I$_" } $build, map { "$source/src/$_" } qw(core event event/modules event/quic os/unix http http/modules http/v2 http/v3);
    my $said = `cc -fPIC -shared -O1 @include -o $dir/filter.so $dir/filter.c 2>&1`;
    plan skip_all => "the filter does not compile: $said" if $?;
    return "$dir/filter.so";
}

__DATA__
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

static ngx_http_output_body_filter_pt  next_filter;

static ngx_int_t
replace_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    u_char       *p;
    ngx_buf_t    *b;
    ngx_chain_t  *out, **ll, *link;

    out = NULL;
    ll = &out;

    for ( /* void */ ; in; in = in->next) {
        link = ngx_alloc_chain_link(r->pool);
        if (link == NULL) {
            return NGX_ERROR;
        }

        link->buf = in->buf;
        link->next = NULL;
        *ll = link;
        ll = &link->next;

        if (!ngx_buf_in_memory(in->buf) || ngx_buf_size(in->buf) == 0) {
            continue;
        }

        b = ngx_create_temp_buf(r->pool, ngx_buf_size(in->buf));
        if (b == NULL) {
            return NGX_ERROR;
        }

        for (p = in->buf->pos; p < in->buf->last; p++) {
            *b->last++ = (*p == 'q') ? 'Q' : *p;
        }

        b->flush = in->buf->flush;
        b->last_buf = in->buf->last_buf;
        b->last_in_chain = in->buf->last_in_chain;
        in->buf->pos = in->buf->last;
        link->buf = b;
    }

    return next_filter(r, out);
}

static ngx_int_t
replace_init(ngx_conf_t *cf)
{
    next_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = replace_filter;
    return NGX_OK;
}

static ngx_http_module_t  replace_context = {
    NULL, replace_init, NULL, NULL, NULL, NULL, NULL, NULL
};

ngx_module_t  replace_module = {
    NGX_MODULE_V1, &replace_context, NULL, NGX_HTTP_MODULE,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NGX_MODULE_V1_PADDING
};

ngx_module_t *ngx_modules[] = { &replace_module, NULL };
char *ngx_module_names[] = { "replace_module", NULL };
char *ngx_module_order[] = { NULL };
