/*
 * Functions for nginx's macros, and for code that depends on nginx's configure options, which only the C
 * compiler can see. src/nginx/macros.rs declares them.
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>


void
ngx_sse_add_timer(ngx_event_t *ev, ngx_msec_t timer)
{
    ngx_add_timer(ev, timer);
}


void
ngx_sse_del_timer(ngx_event_t *ev)
{
    ngx_del_timer(ev);
}


void
ngx_sse_post_event(ngx_event_t *ev, ngx_queue_t *queue)
{
    ngx_post_event(ev, queue);
}


void
ngx_sse_delete_posted_event(ngx_event_t *ev)
{
    ngx_delete_posted_event(ev);
}


/* Whether the connection uses TLS. */

ngx_uint_t
ngx_sse_is_tls(ngx_connection_t *c)
{
#if (NGX_SSL || NGX_COMPAT)
    return c->ssl != NULL;
#else
    return 0;
#endif
}


/* Whether TLS is not waiting to read before it can write, or the reverse. */

ngx_uint_t
ngx_sse_tls_is_quiet(ngx_connection_t *c)
{
#if (NGX_SSL)
    return c->ssl == NULL
           || (c->ssl->saved_read_handler == NULL && c->ssl->saved_write_handler == NULL);
#else
    return 1;
#endif
}


/* Frees the buffer in which nginx collects small TLS records. nginx allocates it again when needed. */

void
ngx_sse_tls_free_buffer(ngx_connection_t *c)
{
#if (NGX_SSL)
    if (c->ssl && !c->buffered) {
        ngx_ssl_free_buffer(c);
    }
#endif
}


/* Shuts TLS down without waiting for the client. */

void
ngx_sse_tls_shutdown(ngx_connection_t *c)
{
#if (NGX_SSL)
    if (c->ssl == NULL) {
        return;
    }

    c->ssl->no_wait_shutdown = 1;

    if (ngx_ssl_shutdown(c) == NGX_AGAIN) {
        /* The socket cannot take the alert. With c->error, nginx frees TLS without sending it. */
        c->error = 1;
        (void) ngx_ssl_shutdown(c);
    }
#endif
}


/* The connection that an HTTP/2 request shares with others; NULL for other requests. */

ngx_connection_t *
ngx_sse_h2_connection(ngx_http_request_t *r)
{
#if (NGX_HTTP_V2)
    return r->stream ? r->stream->connection->connection : NULL;
#else
    return NULL;
#endif
}


/* Whether the body of an HTTP/2 request is being discarded. */

ngx_uint_t
ngx_sse_h2_skips_data(ngx_http_request_t *r)
{
#if (NGX_HTTP_V2)
    return r->stream && r->stream->skip_data;
#else
    return 0;
#endif
}


/* Whether frames of an HTTP/2 request are queued on its connection. */

ngx_uint_t
ngx_sse_h2_has_queued_frames(ngx_http_request_t *r)
{
#if (NGX_HTTP_V2)
    return r->stream && r->stream->queued;
#else
    return 0;
#endif
}


/* Updates the counters of stub_status. */

void
ngx_sse_stat_active(ngx_int_t by)
{
#if (NGX_STAT_STUB)
    (void) ngx_atomic_fetch_add(ngx_stat_active, by);
#endif
}


void
ngx_sse_stat_writing(ngx_int_t by)
{
#if (NGX_STAT_STUB)
    (void) ngx_atomic_fetch_add(ngx_stat_writing, by);
#endif
}


/*
 * Whether the response to a main request is being read from an upstream. After an internal redirect, a
 * request still has the upstream of an earlier response, which has been finalized.
 */

static ngx_uint_t
ngx_sse_is_from_upstream(ngx_http_request_t *r)
{
    ngx_http_upstream_t  *u;

    u = r->upstream;

    return r == r->main && u != NULL && u->cleanup != NULL && u->peer.connection != NULL && !u->upgrade;
}


/*
 * Whether nginx will store or cache the response. ngx_http_upstream_send_response decides about the cache
 * in the same way, but after the header has been sent.
 */

static ngx_uint_t
ngx_sse_will_be_kept(ngx_http_request_t *r)
{
    ngx_http_upstream_t  *u;

    u = r->upstream;

    if (u->store) {
        return 1;
    }

#if (NGX_HTTP_CACHE)
    /* A bypassed cache has no entry yet; nginx creates it when it sends the body. */

    if (!u->cacheable || (r->cache == NULL && u->cache_status != NGX_HTTP_CACHE_BYPASS)) {
        return 0;
    }

    if ((r->cache == NULL || r->cache->valid_sec == 0)
        && ngx_http_file_cache_valid(u->conf->cache_valid, u->headers_in.status_n) == 0)
    {
        return 0;
    }

    /* Last, because it evaluates variables. If that fails, nginx is about to end the request. */

    return ngx_http_test_predicates(r, u->conf->no_cache) != NGX_DECLINED;
#else
    return 0;
#endif
}


/* Whether the upstream asks for its response to be buffered (X-Accel-Buffering: yes). */

static ngx_uint_t
ngx_sse_asks_for_buffering(ngx_http_request_t *r)
{
    ngx_uint_t            i;
    ngx_list_part_t      *part;
    ngx_table_elt_t      *h;
    ngx_http_upstream_t  *u;

    static ngx_str_t  name = ngx_string("X-Accel-Buffering");

    u = r->upstream;

    if (u->conf->ignore_headers & NGX_HTTP_UPSTREAM_IGN_XA_BUFFERING) {
        return 0;
    }

    for (part = &u->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].hash != 0
                && h[i].key.len == name.len
                && ngx_strncasecmp(h[i].key.data, name.data, name.len) == 0
                && h[i].value.len == 3
                && ngx_strncasecmp(h[i].value.data, (u_char *) "yes", 3) == 0)
            {
                return 1;
            }
        }
    }

    return 0;
}


/*
 * Whether the response to a main request is read from an upstream and may be passed on as it arrives:
 * nginx neither stores nor caches it, and the upstream does not ask for buffering.
 */

ngx_uint_t
ngx_sse_is_live_from_upstream(ngx_http_request_t *r)
{
    return ngx_sse_is_from_upstream(r) && !ngx_sse_asks_for_buffering(r) && !ngx_sse_will_be_kept(r);
}


/*
 * Makes nginx pass the upstream's response on as it arrives; nginx looks at `buffering` after it has sent
 * the header. A module that decodes responses only when it buffers them (it has no input_filter, and one
 * of its own in the pipe) is left alone.
 */

void
ngx_sse_upstream_unbuffer(ngx_http_request_t *r)
{
    ngx_http_upstream_t  *u;

    u = r->upstream;

    if (u->input_filter == NULL && u->pipe != NULL
        && u->pipe->input_filter != ngx_event_pipe_copy_input_filter)
    {
        return;
    }

    u->buffering = 0;
}


/*
 * Replaces the timeout for reading the upstream's response, if it is not longer than `longest`. All
 * requests of the location share the configuration, so the request gets a copy.
 */

ngx_int_t
ngx_sse_upstream_set_read_timeout(ngx_http_request_t *r, ngx_msec_t longest, ngx_msec_t timeout)
{
    ngx_http_upstream_t       *u;
    ngx_http_upstream_conf_t  *conf;

    u = r->upstream;

    if (u->conf->read_timeout > longest) {
        return NGX_OK;
    }

    conf = ngx_palloc(r->pool, sizeof(ngx_http_upstream_conf_t));
    if (conf == NULL) {
        return NGX_ERROR;
    }

    *conf = *u->conf;
    conf->read_timeout = timeout;
    u->conf = conf;

    return NGX_OK;
}


/*
 * The name of a module that the running nginx has, but that the nginx for which this file was compiled did
 * not have; NULL if there is none. The functions above would be wrong for such an nginx. nginx itself does
 * not detect this if it was built with --with-compat.
 */

const char *
ngx_sse_compiled_without(ngx_conf_t *cf)
{
    ngx_uint_t          i, n;
    static const char  *names[] = {
#if !(NGX_SSL)
        "ngx_http_ssl_module",
#endif
#if !(NGX_HTTP_V2)
        "ngx_http_v2_module",
#endif
#if !(NGX_STAT_STUB)
        "ngx_http_stub_status_module",
#endif
        NULL
    };

    for (i = 0; cf->cycle->modules[i]; i++) {
        for (n = 0; names[n]; n++) {
            if (ngx_strcmp(cf->cycle->modules[i]->name, names[n]) == 0) {
                return names[n];
            }
        }
    }

    return NULL;
}


#if (NGX_SSE_SANITIZED)

/* See planted.rs. */

int
ngx_sse_planted_overflow(int by)
{
    return 0x7fffffff + by;
}

#endif
