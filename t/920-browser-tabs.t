# A real browser: js/, one EventSource for all tabs, with a shared worker and with a tab that leads the others.

use v5.36;
use File::Basename qw(basename);
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Browser;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Publisher;
use SSE::Stage;

plan skip_all => 'the browser is not installed (on Ubuntu it is a snap, which scripts/test does not install)' if !SSE::Browser::path();

my $page = <<'EOF_PAGE';
<!DOCTYPE html><title>tabs</title><script type="module">
import { SharedEventSource } from "./index.js";
const given = Object.fromEntries(new URLSearchParams(location.search));
const options = { types: ["price"], onGap: () => window.gaps++ };
if (given.worker === "no") options.worker = false;
if (given.remember === "no") options.remember = false;
if (given.position) options.position = given.position;
if (given.since) options.since = Number(given.since);
if (given.replay) options.replay = Number(given.replay);
Object.assign(window, { data: [], gaps: 0, opens: 0, errors: 0 });
window.source = new SharedEventSource(`/s?${given.x ?? ""}`, options);
source.onopen = () => opens++;
source.onerror = () => errors++;
source.onmessage = (event) => data.push(event.data);
source.addEventListener("price", (event) => data.push(`price ${event.data}`));
</script>
EOF_PAGE
my %files = map { basename($_) => SSE::Cluster::slurp($_) } glob "$FindBin::Bin/../js/*.js";
my $browser;

for my $way ([worker => 'a shared worker', ''], [leader => 'a tab that leads', '&worker=no']) {
    my ($mode, $title, $argument) = @$way;
    part($title, sub {
        my ($stage, $address) = stage();
        my @tabs = map { $browser->tab("$address?replay=100$argument") } 1 .. 8;
        ok($_->becomes('source.readyState === 1'), 'a tab is connected') for @tabs;
        is($stage->subscribers('news'), 1, 'all eight share one connection');
        my %modes;
        $modes{ $_->js('source.mode') }++ for @tabs;
        is_deeply(\%modes, $mode eq 'worker' ? { worker => 8 } : { leader => 1, follower => 7 }, 'as the mode says');

        my $publisher = SSE::Publisher->new(port => $stage->port, path => '/to/news');
        $publisher->stream(100, sub ($number) { "event $number" });
        serve_for(1);
        my $late = $browser->tab("$address?replay=5000$argument");
        serve_for(0.5);
        # The tab that has the connection is closed, or the first one, while events are published.
        my ($leader) = grep { $_->js('source.mode') eq $mode } @tabs;
        @tabs = grep { $_ != $leader } @tabs;
        $leader->close;
        serve_for(1);
        ok($stage->cluster->reload, 'nginx reloads');
        serve_for(1);
        my ($other) = grep { $_->js('source.mode') eq $mode } @tabs;
        $other->go('about:blank#left') if $other;
        serve_for(1);
        $publisher->stop;
        ok($publisher->wait_idle, 'all events are published');
        my @wanted = map { $_->{data} } $publisher->accepted;
        my @all    = ('', @wanted);   # subscribers() has published an event without data
        for my $tab (grep { $_ != ($other // 0) } @tabs) {
            ok($tab->becomes('data.at(-1) === "' . $wanted[-1] . '"', 15), 'a tab has the last event');
            is(join('|', @{ $tab->js('data') }), join('|', @all), 'every event arrived once and in order');
            is($tab->js('gaps'), 0, 'without a gap');
        }
        ok($late->becomes('data.at(-1) === "' . $wanted[-1] . '"', 15), 'a tab that was opened later has it, too');
        is(join('|', @{ $late->js('data') }), join('|', @all), 'and the earlier ones');
        is($stage->subscribers('news'), 1, 'there is one connection');

        # A tab that comes back to the page.
        if ($other) {
            $other->js('history.back()');
            ok($other->becomes('window.data?.includes("' . $wanted[-1] . '")', 15), 'a tab that has left the page and returned has the last event');
            push @tabs, $other if !grep { $_ == $other } @tabs;
            $other = undef;
        }

        # A tab that is reloaded, and one that is closed by close().
        my $reloaded = $late;
        $reloaded->js('setTimeout(() => location.reload()); 0');
        ok($reloaded->becomes('window.source?.readyState === 1 && performance.getEntriesByType("navigation")[0].type === "reload"'), 'a tab is reloaded');
        $stage->publish('news', 'after the reload');
        ok($reloaded->becomes('data.at(-1) === "after the reload"'), 'it goes on');
        cmp_ok($reloaded->js('data.length'), '<=', 2, 'after the last event that it has received');
        $_->js('source.close(); 0') for @tabs;
        $stage->publish('news', 'to one tab');
        ok($reloaded->becomes('data.at(-1) === "to one tab"'), 'tabs that have closed it do not matter to others');
        is($tabs[-1]->js('source.readyState'), 2, 'they are closed');
        $reloaded->close;
        ok(wait_for(sub { $stage->subscribers('news') == 0 }), 'the connection is closed with the last tab');
        $publisher->drop;
        $stage->ends_cleanly;
    });

    part("$title: where a tab begins", sub {
        my ($stage, $address) = stage();
        my @ids   = $stage->publish('news', map { "event $_" } 1 .. 9);
        my $first = $browser->tab("$address?position=$ids[5]$argument");
        ok($first->becomes('data.join() === "event 7,event 8,event 9"'), 'a tab begins at its position');
        my $newer = $browser->tab("$address?position=$ids[7]$argument");
        ok($newer->becomes('data.join() === "event 9"'), 'another one at a later position');
        my $older = $browser->tab("$address?position=$ids[2]$argument");
        ok($older->becomes('data.join() === "event 4,event 5,event 6,event 7,event 8,event 9"'), 'and one at an earlier position');
        is($first->js('data.length') . ' ' . $newer->js('data.length'), '3 1', 'for which others receive nothing twice');
        my ($ms) = $ids[0] =~ /^(\d+)/;
        my $since = $browser->tab("$address?since=" . ($ms - 1000) . $argument);
        ok($since->becomes('data.length === 9'), 'one begins at a time');
        my $now = $browser->tab("$address?x$argument");
        ok($now->becomes('source.readyState === 1'), 'one begins now');
        request(port => $stage->port, path => '/to/news?event=price', body => '12.50');
        ok($_->becomes('data.at(-1) === "price 12.50"'), 'all receive the next event, which has a type') for $first, $newer, $older, $since, $now;
        is($now->js('data.length'), 1, 'and the last one nothing else');
        is($stage->subscribers('news'), 1, 'with one connection');
        is($_->js('gaps'), 0, 'without a gap') for $first, $newer, $older, $since, $now;
        request(port => $stage->port, path => '/admin?channel=news&only=history', method => 'DELETE');
        $stage->publish('news', 'after the deletion');
        my $lost = $browser->tab("$address?position=$ids[1]$argument");
        ok($lost->becomes('gaps === 1'), 'a tab that has lost events receives a gap event');
        $stage->publish('news', 'the end');
        ok($_->becomes('data.at(-1) === "the end"'), 'all go on') for $lost, $first, $now;
        is($first->js('gaps'), 0, 'others have lost nothing');
        is(scalar(grep { $_ eq 'after the deletion' } @{ $first->js('data') }), 1, 'and receive each event once');

        # A finished channel is closed for good, for all tabs.
        request(port => $stage->port, path => '/admin?channel=news&only=run', method => 'DELETE');
        ok($_->becomes('source.readyState === 2', 15), 'when nothing is to come, a tab is closed') for $lost, $first, $now;
        $stage->ends_cleanly;
    });
}

part('a worker that cannot be loaded', sub {
    my %without = map { $_ => $files{$_} } grep { !/worker/ } keys %files;
    my ($stage, $address) = stage(%without);
    my @tabs = map { $browser->tab($address) } 1 .. 2;
    ok($_->becomes('source.readyState === 1'), 'a tab is connected') for @tabs;
    is(join(' ', sort map { $_->js('source.mode') } @tabs), 'follower leader', 'one of them leads');
    $stage->publish('news', 'something');
    ok($_->becomes('data.join() === "something"'), 'it receives events') for @tabs;
    $stage->ends_cleanly;
});
done_testing();

sub stage (%given) {
    %given = %files if !%given;
    my $stage = SSE::Stage->new(
        http   => 'sse_hub default { zone 8m; history 5000; } sse_retry 100ms; sse_drain 300ms; log_not_found off;',
        server => 'location = /s { sse_stream news; sse_since $arg_since; } location = /admin { sse_admin; }'
            . ' types { text/html html; text/javascript js; }',
        files => { 'page.html' => $page, %given },
    );
    return ($stage, 'http://127.0.0.1:' . $stage->port . '/page.html');
}

sub part ($name, $code) {
    subtest $name => sub {
        $browser = SSE::Browser->new;
        $code->();
        $browser->drop;
    };
    return;
}
