# A real browser: the page of sse_admin. Names, types, and data from channels are shown as text, whatever they contain.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Browser;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Stage;

plan skip_all => 'the browser is not installed (on Ubuntu it is a snap, which scripts/test does not install)' if !SSE::Browser::path();

my $stage = SSE::Stage->new(
    http   => 'sse_retry 100ms; sse_drain 300ms; sse_hub default { zone 8m; history 300; }',
    server => <<'EOF_CONFIG',
        location ~ ^/s/(.+)$        { sse_stream $1; }
        location /some/where/admin/ { sse_admin; if ($arg_key != 1) { return 403; } }
        location = /frame.html      { default_type text/html; return 200 '<iframe src="/some/where/admin/?key=1"></iframe>'; }
EOF_CONFIG
);
my $base    = 'http://127.0.0.1:' . $stage->port;
my $browser = SSE::Browser->new('--window-size=1200,1000');
my $evil    = '<img src=x onerror="window.hacked=1">';
my $encoded = $evil =~ s/(\W)/sprintf '%%%02x', ord $1/ger;
$stage->publish('room:1', map { "event $_" } 1 .. 5);
$stage->publish($encoded, '<script>window.hacked=2</script>');
my @streams = map { $stage->stream('/s/room:2', reconnect => 1) } 1 .. 3;

# Any location, with arguments that it needs.
my $tab    = $browser->tab("$base/some/where/admin/?key=1");
my $table  = sub ($id) { "[...document.querySelectorAll('#$id tr')].map(row => [...row.children].map(cell => cell.textContent).join(' '))" };
my $list   = '[...document.querySelectorAll("#list li")].map(row => row.querySelector("b").textContent + " " + row.querySelector("pre").textContent)';
my $state  = 'document.getElementById("state").dataset.is';
my $choose = sub ($name) { $tab->js("[...document.querySelectorAll('#events button')].find(button => button.textContent === '$name').click()") };
ok($tab->becomes("$state === 'live' && " . $table->('events') . '.length === 3'), 'the channels are listed');
is_deeply($tab->js($table->('subscribers') . '.slice(0, 1)'), ['room:2 3 0'], 'the one with the most streams first');
is_deeply($tab->js($table->('events')), ['room:1 0 5', "$evil 0 1", 'room:2 3 0'], 'in the other table, the one with the most events');
$stage->publish('room:3', 'new');
ok($tab->becomes($table->('events') . '.some(row => row.startsWith("room:3 0 1"))'), 'a new channel appears');
$tab->js('document.getElementById("prefix").value = "room:"; document.getElementById("prefix").oninput()');
ok($tab->becomes($table->('events') . '.length === 3 && ' . $table->('events') . '.every(row => row.startsWith("room:"))'), 'the names can be filtered');
$tab->js('document.getElementById("prefix").value = ""; document.getElementById("prefix").oninput()');

# A channel's events.
ok($tab->becomes($table->('events') . '.length === 4'), 'all channels are listed again');
$choose->('room:1');
ok($tab->becomes("$list.length === 5"), 'the retained events of a channel are shown');
is($tab->js("$list.join()"), join(',', map { "message event $_" } reverse 1 .. 5), 'the newest first');
is($tab->js('location.search'), '?key=1&channel=room%3A1', 'the address of the page names the channel');
$stage->publish('room:1', 'live');
request(port => $stage->port, path => '/to/room:1?x=1', body => "two\nlines");
ok($tab->becomes("$list.includes('message two\\nlines') && $list.includes('message live')"), 'new events appear');
request(port => $stage->port, path => '/some/where/admin/?key=1&channel=room:1&event=<b>type', body => $evil);
ok($tab->becomes("$list.includes('<b>type $evil')"), 'a type of any characters appears as text');
$stage->cluster->reload;
ok($tab->becomes("document.getElementById('live').dataset.is === 'live' && $state === 'live'", 15), 'it reconnects after a reload');
$stage->publish('room:1', 'after the reload');
ok($tab->becomes("$list.includes('message after the reload')", 15), 'it continues to show events');
is($tab->js("$list.length"), 9, 'each event was shown once');

# Another channel, the browser's buttons, and a link.
$choose->($evil);
ok($tab->becomes("$list.join() === 'message <script>window.hacked=2</script>'"), 'a channel with any name can be selected');
is($tab->js('document.getElementById("name").textContent'), $evil, 'its name is shown as text');
$tab->js('history.back()');
ok($tab->becomes("document.getElementById('name').textContent === 'room:1' && $list.length === 9"), 'the browser goes back to the one before');
my $link = $browser->tab($tab->js('location.href'));
ok($link->becomes("document.querySelectorAll('#list li').length === 9"), 'the address leads to the channel');
$link->close;
is($tab->js('window.hacked ?? "no"'), 'no', 'nothing from a channel was executed');

# Publishing.
my $fill = sub (%with) {
    $tab->js("document.getElementById('$_').value = '$with{$_}'") for keys %with;
    $tab->js('document.getElementById("publish").requestSubmit()');
};
$fill->(channel => 'room:2', type => 'price', data => '12.50');
ok($tab->becomes("$list.includes('price 12.50')"), 'an event is published from the page, and its channel shown');
ok(wait_for(sub { !grep { !$_->events('price') } @streams }), 'the clients receive it');
like($tab->js('document.getElementById("answer").textContent'), qr/\A[0-9-]+ to \d streams?\z/, 'the page shows the response');
$fill->(channel => 'sse.status', type => '', data => 'x');
ok($tab->becomes('document.getElementById("answer").className === "refused"'), 'a rejected publish is shown');
like($tab->js('document.getElementById("answer").textContent'), qr/sse/, 'with its reason');

# Many events, and large ones.
$stage->batch('room:2', map { "$_ " . 'x' x 100 } 1 .. 250);
ok($tab->becomes("$list.length === 200"), 'the list keeps the newest events');
like($tab->js("$list"), qr/ARRAY/, 'and only them');
like($tab->js("$list\[0]"), qr/^message 250 x/, 'the newest is there');
$stage->publish('room:2', 'y' x 100_000);
ok($tab->becomes("$list\[0].endsWith('80000 more characters')"), 'the beginning of a large event is shown');

# Losses.
request(port => $stage->port, path => '/some/where/admin/?key=1&channel=room:2&only=history', method => 'DELETE');
$stage->cluster->reload;
ok($tab->becomes("$list.some(row => row.startsWith('sse.gap events after'))", 15), 'lost events are reported');

# Only the page itself may use it.
my $frame = $browser->tab("$base/frame.html");
ok($frame->becomes('(() => { try { return !frames[0].document.getElementById("publish") } catch { return true } })()'), 'it cannot be framed');
$frame->close;
my $foreign = $browser->tab('http://localhost:' . $stage->port . '/frame.html');
is($foreign->js("fetch('$base/some/where/admin/?key=1&channel=room:1', { method: 'POST', body: 'x', mode: 'no-cors' }).then(() => 'sent', () => 'failed')"),
    'sent', 'a page of another site can send a request');
my $last = request(port => $stage->port, path => '/some/where/admin/?key=1&channel=room:1')->{json};
is($last->{events}, 9, 'which publishes nothing');
$foreign->close;

if (my $folder = $ENV{SSE_SCREENSHOTS}) {
    $stage->publish('room:2', 'Hello, World!', '{"price":12.5,"currency":"EUR"}', "three\nlines\nof text");
    $choose->('room:2');
    $fill->(channel => 'room:2', type => 'price', data => '12.50');
    $tab->becomes("$list.length >= 4 && " . $table->('events') . ".length >= 4");
    SSE::Loop::serve_for(1);
    for my $scheme (qw(light dark)) {
        $tab->call('Emulation.setEmulatedMedia', { features => [{ name => 'prefers-color-scheme', value => $scheme }] });
        SSE::Loop::serve_for(0.5);
        $tab->screenshot("$folder/admin-$scheme.png");
    }
}
$browser->drop;
$_->close for @streams;
$stage->ends_cleanly;
done_testing();
