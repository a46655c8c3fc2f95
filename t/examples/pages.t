# The examples with a page, in a browser: each is served with its configuration, and its program runs beside it, as
# scripts/run does.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Test::More;
use SSE::Browser;
use SSE::ExampleConfig;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Process;

my $built = $ENV{SSE_EXAMPLES} or plan skip_all => 'scripts/test examples runs this file';
plan skip_all => 'Chromium is not installed' if !SSE::Browser::path();
my $examples = "$FindBin::Bin/../../examples";
my ($browser, $nginx, $tab);

my $items = '[...document.querySelectorAll("li")].map(item => item.textContent)';
my $state = 'document.getElementById("state")?.textContent';

# Pages on which messages are written and shown.
for my $name (qw(eventsource react vue)) {
    example($name, 'demo', sub {
        ok($tab->becomes("/connected|open/.test($state)"), 'the page is connected');
        write_text('text', 'Hello, <b>World</b>!');
        ok($tab->becomes("$items\[0] === 'Hello, <b>World</b>!'"), 'a message from the page appears, as text');
        ok($tab->becomes('document.querySelector("input").value === ""'), 'the field is empty again');
        post('/publish', $_) for 'second', 'third';
        ok($tab->becomes("$items.join() === 'third,second,Hello, <b>World</b>!'"), 'messages from elsewhere appear');
        $nginx->reload;
        post('/publish', 'after the reload');
        ok($tab->becomes("$items\[0] === 'after the reload' && $items.length === 4", 15), 'the page goes on after a reload of nginx');
        ok($tab->becomes("/connected|open/.test($state)"), 'and says so');
    });
}

# Pages of libraries that put into the page what the program publishes.
for my $name (qw(htmx-2 htmx-4 turbo datastar)) {
    example($name, 'demo', sub {
        my $lines = "$items.filter(text => /^It is \\d\\d:\\d\\d:\\d\\d\\.\$/.test(text))";
        ok($tab->becomes("$lines.length >= 2"), 'lines appear');
        $nginx->reload;
        my $count = $tab->js("$lines.length");
        ok($tab->becomes("$lines.length >= $count + 3", 20), 'more appear after a reload of nginx');
        is($tab->js("new Set($lines).size"), $tab->js("$lines.length"), 'each of them once');
        post('/publish' . ($name eq 'datastar' ? '?event=datastar-merge-fragments' : ''), wrapped($name, '<li>the end</li>'));
        ok($tab->becomes("$items\[0] === 'the end'"), 'and the newest is the first');
    });
}

example('prices', 'prices', sub {
    my $rows = '[...document.querySelectorAll("tbody tr")].map(row => row.cells[0].textContent).sort()';
    my $gold = 'Number([...document.querySelectorAll("tbody tr")].find(row => row.cells[0].textContent === "gold").cells[1].textContent)';
    ok($tab->becomes("$rows.join() === 'copper,gold,silver'"), 'all prices are shown');
    my $first = $tab->js($gold);
    ok($tab->becomes("$gold !== $first"), 'they change');
    my $second = $browser->tab($tab->js('location.href'));
    ok($second->becomes("$rows.length === 3"), 'a second page has all of them at once');
    $second->close;
});

example('job-progress', 'job-progress', sub {
    ok($tab->becomes("$items.length >= 3"), 'the steps of the job appear');
    my $later = $browser->tab($tab->js('location.href'));
    ok($later->becomes("$items\[0] === 'imported part 1 of 10'"), 'a page that is opened in the middle has all of them');
    $nginx->reload;
    for my $page ($tab, $later) {
        ok($page->becomes("$state === 'done'", 20), 'the job is done');
        is($page->js("$items.join()"), join(',', (map { "imported part $_ of 10" } 1 .. 10), 'exit status 0'), 'each step was shown once');
        is($page->js('document.getElementById("bar").value'), 10, 'the bar is full');
        is($page->js('events.readyState'), 2, 'the stream is closed');
    }
    my $after = $browser->tab($tab->js('location.href'));
    ok($after->becomes("$items.length === 11 && $state === 'done'"), 'a page that is opened afterwards shows the result');
    $_->close for $later, $after;
});

example('chat', 'chat', sub {
    my $present = 'document.getElementById("present").textContent';
    ok($tab->becomes("$present === '1 is here'"), 'one is in the lobby');
    my $second = $browser->tab($tab->js('location.href'));
    ok($_->becomes("$present === '2 are here'"), 'two are') for $tab, $second;
    $tab->js('document.getElementById("name").value = "A"');
    write_text('text', 'Who is <i>here</i>?');
    ok($_->becomes("$items.join() === 'AWho is <i>here</i>?'"), 'a message appears, as text') for $tab, $second;
    $second->js('document.getElementById("room").value = "kitchen"; document.getElementById("room").onchange()');
    ok($tab->becomes("$present === '1 is here'"), 'one has gone to the kitchen');
    ok($second->becomes("$present === '1 is here' && $items.length === 0"), 'where nothing was said');
    write_text('text', 'Nobody.');
    ok($tab->becomes("$items.length === 2"), 'another message appears');
    $second->js('document.getElementById("room").value = "lobby"; document.getElementById("room").onchange()');
    ok($second->becomes("$items.join() === 'ANobody.,AWho is <i>here</i>?'"), 'who returns receives what was said');
    $second->close;
    ok($tab->becomes("$present === '1 is here'"), 'and leaves');
});
done_testing();

# Serves an example, opens its page, and takes a picture of it at the end.
sub example ($name, $configuration, $code) {
    subtest $name => sub {
        my $page = -d "$examples/$name/html" ? "$examples/$name/html" : "$built/$name/dist";
        ok(-e "$page/index.html", 'the page is built') or return;
        $nginx = SSE::ExampleConfig->start(name => $configuration, html => $page);
        my $site    = 'http://127.0.0.1:' . $nginx->port;
        my $program = "$examples/$name/start.sh";
        my $beside;
        if (-e $program) {
            local $ENV{SITE} = $site;
            $beside = SSE::Process->start($nginx->dir . '/program.log', $program);
        }
        $browser = SSE::Browser->new('--window-size=800,600');
        $tab     = $browser->tab("$site/");
        $code->();
        $tab->screenshot("$ENV{SSE_SCREENSHOTS}/$name.png") if $ENV{SSE_SCREENSHOTS};
        $browser->drop;
        $beside->end if $beside;
        $nginx->ends_cleanly;
    };
    return;
}

# Writes into a field of the page's first form that has one, and submits it. React needs the event.
sub write_text ($name, $text) {
    $tab->js(<<"EOF_JS");
        (() => {
            const field = document.querySelector('input[name="$name"], input#$name');
            Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(field, "$text");
            field.dispatchEvent(new Event("input", { bubbles: true }));
            setTimeout(() => field.form.requestSubmit());
        })()
EOF_JS
    return;
}

sub post ($path, $body) {
    my $answer = request(port => $nginx->port, path => $path, body => $body);
    is($answer->{status}, 201, 'an event is published');
    return;
}

# What the library of an example expects.
sub wrapped ($name, $html) {
    return "<turbo-stream action='prepend' target='list'><template>$html</template></turbo-stream>" if $name eq 'turbo';
    return "selector #list\nmergeMode prepend\nfragments $html" if $name eq 'datastar';
    return $html;
}
