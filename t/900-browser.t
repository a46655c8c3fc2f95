# A real browser: the demo page, and the behaviour of EventSource over reloads, killed workers, many tabs,
# HTTP/2, and from a page of another origin.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Browser;
use SSE::Client;
use SSE::ExampleConfig;
use SSE::Loop qw(serve_for wait_for);
use SSE::Nginx qw(has_module);
use SSE::Publisher;
use SSE::Redis;
use SSE::RedisStage;
use SSE::Stage;
use SSE::TLS qw(certificate);

plan skip_all => 'the browser is not installed (on Ubuntu it is a snap, which scripts/test does not install)' if !SSE::Browser::path();

# Each part has its own browser, which exits with all other clients at the end of the part.
my $browser;

# A page that records the events of its streams. listen(name, address, options) opens one.
my $page = <<'EOF_PAGE';
<!DOCTYPE html><title>streams</title><script>
const heard = {};
function listen(name, address, options) {
  const source = new EventSource(address, options);
  const kept = heard[name] = { data: [], opens: 0, errors: 0, gaps: 0, source };
  source.onopen = () => kept.opens++;
  source.onerror = () => kept.errors++;
  source.onmessage = event => kept.data.push(event.data);
  source.addEventListener("sse.gap", () => kept.gaps++);
  return true;
}
async function say(address, body, headers = {}, options = {}) {
  try {
    const answer = await fetch(address, { method: "POST", body, headers, ...options });
    return [answer.status, (await answer.json()).error ?? "published"].join(" ");
  } catch { return "failed"; }
}
</script>
EOF_PAGE

part('the demo page', sub {
    my $nginx = SSE::ExampleConfig->start(name => 'demo');
    my $tab   = $browser->tab('http://127.0.0.1:' . $nginx->port . '/');
    my $state = 'document.getElementById("state").textContent';
    ok($tab->becomes("$state === 'open'"), 'it shows that it is connected');
    my $publish = sub ($data, $type) {
        $tab->js("document.getElementById('data').value = '$data'; document.getElementById('type').value = '$type';"
                . "document.getElementById('publish').requestSubmit()");
    };
    my $rows = '[...document.querySelectorAll("#events li")].map(row => row.querySelector("b").textContent + " " + row.querySelector("pre").textContent)';
    $publish->('Hello, <b>World</b>!', '');
    ok($tab->becomes("$rows.includes('message Hello, <b>World</b>!')"), 'an event published from the page appears as text');
    $publish->('2041.50', 'price');
    ok($tab->becomes("$rows.includes('price 2041.50')"), 'an event with a type appears too');
    like($tab->js('document.getElementById("answer").textContent'), qr/\A[0-9-]+ to 1 subscriber\z/, 'the page shows the response to the publish');
    is($tab->js('document.getElementById("count").textContent'), 2, 'it shows the number of events');
    my $publisher = SSE::Publisher->new(port => $nginx->port);
    ok($publisher->publish('from a shell'), 'another client publishes');
    ok($tab->becomes("$rows.includes('message from a shell')"), 'the event of another client appears');
    $publish->('x', 'error');
    ok($tab->becomes('document.getElementById("answer").className === "refused"'), 'a rejected publish is shown');

    $tab->js("window.states = []; new MutationObserver(() => states.push($state)).observe(document.getElementById('state'), { childList: true, characterData: true, subtree: true }); 0");
    $nginx->reload;
    ok($tab->becomes("states.includes('retrying') && $state === 'open'", 15), 'it reconnects after a reload and shows it');
    $publisher->publish('after the reload');
    ok($tab->becomes("$rows.includes('message after the reload')"), 'it continues to show events');
    is($tab->js("$rows.filter(row => row.startsWith('sse.gap')).length"), 0, 'without a gap event');
    $tab->js('document.getElementById("toggle").click()');
    is($tab->js($state), 'closed', 'it can be disconnected');
    $publisher->publish('missed');
    $tab->js('document.getElementById("toggle").click()');
    ok($tab->becomes("$rows.includes('message missed')"), 'it receives missed events when it is connected again');
    $tab->screenshot($ENV{SSE_SCREENSHOTS} . '/demo.png') if $ENV{SSE_SCREENSHOTS};
    $publisher->drop;
    $nginx->ends_cleanly;
});

part('the status page', sub {
    my $nginx = SSE::ExampleConfig->start(name => 'demo');
    my $tab   = $browser->tab('http://127.0.0.1:' . $nginx->port . '/status');
    my $state = 'document.getElementById("state").dataset.is';
    my $words = 'document.getElementById("tables").innerText';
    ok($tab->becomes("$state === 'live'"), 'the figures are shown');
    my $publisher = SSE::Publisher->new(port => $nginx->port);
    my $client    = SSE::Client->new(port => $nginx->port, path => '/stream', reconnect => 1);
    $client->wait_open;
    $publisher->publish("event $_") for 1 .. 7;
    ok($tab->becomes("/Events\\s+7\\b/.test($words)"), 'figures are updated without a reload of the page');
    ok($tab->becomes("/99% within\\s+[\\d.]+ \\S?s\\b/.test($words)"), 'the times of delivery are shown as quantiles')
        or diag($tab->js($words));
    my $graphs = 'document.getElementById("graphs").innerText';
    ok($tab->becomes("/Events in\\n.*\\n.* events per second\\n0\\s+1 minute ago\\s+now/.test($graphs)"), 'graphs have labels with units')
        or diag($tab->js($graphs));
    $tab->screenshot($ENV{SSE_SCREENSHOTS} . '/status.png') if $ENV{SSE_SCREENSHOTS};
    $nginx->reload;
    $publisher->publish('after the reload');
    ok($tab->becomes("$state === 'live' && /Events\\s+8\\b/.test($words)", 15), 'figures are updated after a reload of nginx');
    unlike($tab->js($words), qr/Redis/, 'without Redis it shows no state of Redis');
    $client->close;
    $tab->close;
    $nginx->ends_cleanly;
});

part('the status page with Redis', sub {
    my $redis = SSE::Redis->start;
    my $nginx = SSE::RedisStage->new(redis => $redis->url);
    my $tab   = $browser->tab('http://127.0.0.1:' . $nginx->port . '/status');
    my $words = 'document.getElementById("tables").innerText';
    ok($tab->becomes("/Connection\\s+up\\b/.test($words)"), 'it shows that Redis is connected');
    $redis->kill;
    ok($tab->becomes("/Connection\\s+down\\b/.test($words)", 15), 'it shows that Redis is not reachable');
    $tab->close;
    $nginx->ends_cleanly;
});

part('reloads and killed workers', sub {
    my $stage = SSE::Stage->new(
        http   => 'sse_hub default { history 5000; } sse_retry 100ms; sse_drain 300ms;',
        server => 'location = /s { sse_stream news; } location = /p { sse_publish news; }',
        files  => { 'page.html' => $page },
    );
    my $nginx = $stage->cluster;
    my $tab   = $browser->tab('http://127.0.0.1:' . $stage->port . '/page.html');
    $tab->js("listen('$_', '/s')") for 1 .. 3;
    ok($tab->becomes('Object.values(heard).every(kept => kept.opens === 1)'), 'three streams are open');
    my $publisher = SSE::Publisher->new(port => $stage->port, path => '/p');
    $publisher->stream(100, sub ($number) { "event $number" });
    for (1 .. 3) {
        serve_for(1);
        ok($nginx->reload, 'nginx reloads');
    }
    for (1 .. 3) {
        serve_for(1);
        ok($nginx->kill_worker(($nginx->workers)[0]), 'a worker is killed');
    }
    serve_for(1);
    $publisher->stop;
    ok($publisher->wait_idle, 'all events are published');
    my @wanted = map { $_->{data} } $publisher->accepted;
    cmp_ok(scalar @wanted, '>=', 300, @wanted . ' events');
    for my $name (1 .. 3) {
        my $kept = "heard['$name']";
        ok($tab->becomes("$kept.data.length >= " . @wanted, 15), 'a stream has as many');
        is(join('|', @{ $tab->js("$kept.data") }), join('|', @wanted), 'all events arrive once and in order');
        cmp_ok($tab->js("$kept.opens"), '>=', 4, 'although it had to reconnect');
        is($tab->js("$kept.gaps"), 0, 'without a gap event');
    }
    $publisher->drop;
    $stage->ends_cleanly;
});

part('limits, maximum age, and overload', sub {
    my $stage = SSE::Stage->new(
        http   => 'sse_retry 100ms;',
        server => 'location = /aged { sse_stream news; sse_max_age 500ms; } location = /one { sse_stream one; sse_max_subscribers 1; }'
            . ' location = /busy { return 503; }',
        files => { 'page.html' => $page },
    );
    my $tab = $browser->tab('http://127.0.0.1:' . $stage->port . '/page.html');
    $tab->js("listen('aged', '/aged') && listen('one', '/one')");
    ok($tab->becomes("heard.aged.opens >= 3"), 'a stream that reaches its maximum age reconnects');
    ok($tab->becomes('heard.one.opens === 1'), 'one stream is accepted');
    $tab->js("listen('two', '/one') && listen('busy', '/busy')");
    ok($tab->becomes('heard.two.errors >= 1'), 'a second is not accepted');
    is($tab->js('heard.two.source.readyState'), 0, 'the second keeps trying');
    ok($tab->becomes('heard.busy.source.readyState === 2'), 'a 503 ends an EventSource for good');
    $stage->ends_cleanly;
});

part('six tabs of HTTP/1.1', sub {
    my $stage = SSE::Stage->new(server => 'location = /s { sse_stream news; }', files => { 'page.html' => $page });
    my $address = 'http://127.0.0.1:' . $stage->port . '/page.html';
    my @tabs    = map { $browser->tab($address) } 1 .. 7;
    $_->js("listen('s', '/s')") for @tabs[0 .. 5];
    ok($_->becomes('heard.s.opens === 1'), 'a tab has a stream') for @tabs[0 .. 5];
    $tabs[6]->js("listen('s', '/s')");
    $stage->publish('news', 'for six');
    ok($_->becomes("heard.s.data.join() === 'for six'"), 'it receives events') for @tabs[0 .. 5];
    is($tabs[6]->js('heard.s.opens'), 0, 'the seventh tab waits, because a browser opens six connections to a host');
    $tabs[0]->close;
    ok($tabs[6]->becomes('heard.s.opens === 1'), 'it continues when another tab is closed');
    $stage->ends_cleanly;
});

part('many streams over HTTP/2', sub {
    plan skip_all => 'nginx is built without TLS or HTTP/2, or openssl is missing'
        if !has_module('http_ssl') || !has_module('http_v2') || !`openssl version`;
    my $stage = SSE::Stage->new(
        http => 'sse_retry 100ms; sse_drain 300ms; log_format streams "$connection $server_protocol $sse_end"; server {'
            . ' listen 127.0.0.1:%%PORT_tls%% ssl http2; ssl_certificate %%DIR%%/cert.pem; ssl_certificate_key %%DIR%%/key.pem;'
            . ' root %%DIR%%; location = /s { sse_stream news; access_log %%DIR%%/streams.log streams; }'
            . ' location = /aging { sse_stream news; sse_retry 1h; sse_max_age 300ms; }'
            . ' location = /filtered { sse_stream news; sse_retry 1h; sse_max_age 300ms; sse_direct off; } }',
        files => { 'page.html' => $page, %{ certificate() } },
    );
    my $tab = $browser->tab('https://localhost:' . $stage->cluster->port('tls') . '/page.html');
    $tab->js("for (let i = 0; i < 50; i++) listen(i, '/s'); 0");
    my $all = 'Object.values(heard).every';
    ok($tab->becomes("$all(kept => kept.opens === 1)"), 'fifty streams of one page are open');
    my @data = map { "event $_" } 1 .. 20;
    $stage->publish('news', @data);
    ok($tab->becomes("$all(kept => kept.data.join() === '" . join(',', @data) . "')"), 'all streams receive all events');
    $stage->cluster->reload;
    ok($tab->becomes("$all(kept => kept.opens >= 2 && kept.source.readyState === 1)", 15), 'all streams reconnect after a reload');
    # The last retry, up to a second, arrives before the reset that interrupts the response.
    my $aging = $browser->tab('https://localhost:' . $stage->cluster->port('tls') . '/page.html');
    for my $path ('aging', 'filtered') {
        $aging->js("listen('$path', '/$path'); 0");
        ok($aging->becomes("heard['$path'].opens >= 3", 20), "an interrupted stream is reconnected as its last retry says ($path)");
        $aging->js("heard['$path'].source.close(); 0");
    }
    $aging->close;
    $stage->publish('news', 'the end');
    ok($tab->becomes("$all(kept => kept.data.length === 21 && kept.data[20] === 'the end' && kept.gaps === 0)"), 'nothing is lost');
    $tab->close;
    ok(wait_for(sub { $stage->subscribers('news') == 0 }, 5), 'the closed tab leaves no stream behind');
    my %connections = map { $_ => 1 } SSE::Cluster::slurp($stage->cluster->dir . '/streams.log') =~ m{^(\d+) HTTP/2\.0 }mg;
    cmp_ok(scalar keys %connections, '<=', 6, 'a few connections are enough: ' . keys %connections);
    $stage->ends_cleanly;
});

part('a page of another origin', sub {
    my $stage = SSE::Stage->new(
        http => 'sse_retry 100ms; sse_drain 300ms; server { listen 127.0.0.1:%%PORT_app%%; root %%DIR%%; }'
            . ' server { listen 127.0.0.1:%%PORT_other%%; root %%DIR%%; }',
        server => <<'EOF_SERVER',
            location /trusted/ {
                sse_cors http://127.0.0.1:%%PORT_app%% credentials;
                location = /trusted/s { sse_stream "user:$cookie_user"; }
                location = /trusted/p { sse_publish news; auth_basic "publishers"; auth_basic_user_file %%DIR%%/users; }
                location = /trusted/bad { sse_publish sse.$arg_x; }
            }
            location /any/ {
                sse_cors *;
                location = /any/s { sse_stream news; }
                location = /any/p { sse_publish news; }
            }
            location = /none/s { sse_stream news; }
            location = /none/p { sse_publish news; }
EOF_SERVER
        files => { 'page.html' => $page, users => "ann:{PLAIN}secret\n" },
    );
    my $nginx  = $stage->cluster;
    my $base   = 'http://127.0.0.1:' . $stage->port;
    my %origin = map { $_ => 'http://127.0.0.1:' . $nginx->port($_) } qw(app other);
    my ($app, $other) = map { $browser->tab("$origin{$_}/page.html") } qw(app other);
    $app->js('document.cookie = "user=ann; path=/"');

    # Streams.
    my $with = '{ withCredentials: true }';
    $_->js("listen('any', '$base/any/s') && listen('none', '$base/none/s') && listen('with', '$base/trusted/s', $with) && listen('without', '$base/trusted/s')") for $app, $other;
    ok($_->becomes('heard.any.opens === 1'), '*: a page of any origin receives events') for $app, $other;
    ok($_->becomes('heard.none.source.readyState === 2'), 'without sse_cors no other origin is allowed') for $app, $other;
    ok($app->becomes("heard.$_.opens === 1"), "$_ credentials: a listed origin receives events") for qw(with without);
    ok($other->becomes("heard.$_.source.readyState === 2"), "$_ credentials: another origin does not") for qw(with without);
    $app->js("listen('greedy', '$base/any/s', $with)");
    ok($app->becomes('heard.greedy.source.readyState === 2'), '* does not allow credentials');
    $stage->publish('user:ann', 'for Ann');
    $stage->publish('user:', 'for nobody');
    ok($app->becomes("heard.with.data.join() === 'for Ann'"), 'with credentials the cookie is sent');
    ok($app->becomes("heard.without.data.join() === 'for nobody'"), 'without credentials the cookie is not sent');

    # Resuming from another origin.
    $nginx->reload;
    ok($app->becomes('heard.with.opens === 2 && heard.any.opens === 2', 15), 'streams reconnect after a reload');
    $stage->publish('user:ann', 'again');
    ok($app->becomes("heard.with.data.join() === 'for Ann,again' && heard.with.gaps === 0"), 'nothing is lost');

    # Publishing.
    my $key = '{ "Idempotency-Key": "k", "Authorization": "Basic ' . 'YW5uOnNlY3JldA==' . '" }';
    my $say = sub ($tab, $address, @more) { $tab->js("say('$base$address', 'said', " . join(', ', @more, '{}') . ')') };
    is($say->($app,   '/trusted/p', $key), '201 published', 'a listed origin publishes with a key and a password');
    is($say->($other, '/trusted/p', $key), 'failed', 'another origin may not publish');
    is($say->($app,   '/trusted/p'), 'failed', 'a page without a password may not publish');
    is($say->($other, '/any/p'), '201 published', '*: any page may publish');
    is($say->($app,   '/none/p'), 'failed', 'without sse_cors no other origin is allowed');
    is($app->js("say('$base/none/p', 'forged', {}, { mode: 'no-cors' })"), 'failed', 'another origin may not publish without a preflight request either');
    is($say->($app, '/trusted/bad?x=y'), '400 channel names beginning with sse. are reserved', 'a page can read the error of a rejected publish');
    $stage->publish('news', 'the end');
    ok($app->becomes("heard.any.data.at(-1) === 'the end'"), 'the last event arrives');
    is($app->js('heard.any.data.join()'), 'said,said,the end', 'only accepted events arrive');
    $stage->ends_cleanly;
});

done_testing();

sub part ($name, $code) {
    subtest $name => sub {
        $browser = SSE::Browser->new;
        $code->();
        $browser->drop;
    };
    return;
}
