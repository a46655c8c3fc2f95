# The example llm-chat, in a browser: a page is loaded again in the middle of an answer, opened twice, and nginx reloads.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/../lib";
use JSON::PP;
use Test::More;
use SSE::Browser;
use SSE::ExampleConfig;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(free_port);
use SSE::Process;

my $built = $ENV{SSE_EXAMPLES} or plan skip_all => 'scripts/test examples runs this file';
plan skip_all => 'Chromium is not installed' if !SSE::Browser::path();

my $port  = free_port();
my $nginx = SSE::ExampleConfig->start(name => 'llm-chat', html => "$built/llm-chat/dist", application => $port);
my $site  = 'http://127.0.0.1:' . $nginx->port;
my $app   = do {
    local @ENV{qw(SITE PORT)} = ($site, $port);
    SSE::Process->start($nginx->dir . '/application.log', 'node', "$FindBin::Bin/../../examples/llm-chat/application.mjs");
};
ok(wait_for(sub { request(port => $port, path => '/api/chat/none') }), 'the application runs');

my $browser = SSE::Browser->new('--window-size=800,600');
my $tab     = $browser->tab("$site/");
my $texts   = '[...document.querySelectorAll("article")].map(article => article.textContent)';
my $end     = 'only once.';
ok($tab->becomes('document.querySelector("form")'), 'the page is shown');
ask($tab, 'What is <b>nginx</b>?');
ok($tab->becomes("$texts\[0] === 'What is <b>nginx</b>?' && $texts\[1]?.includes('A stream is')"), 'the model begins to answer');
my $address = $tab->js('location.href');
$tab->js('setTimeout(() => location.reload()); 0');
ok($tab->becomes("$texts\[1]?.startsWith('You asked')"), 'a page that is loaded again shows the answer from its beginning');
my $second = $browser->tab($address);
ok($second->becomes("$texts\[1]?.startsWith('You asked')"), 'so does another page');
$nginx->reload;
for my $page ($tab, $second) {
    ok($page->becomes("$texts\[1]?.endsWith('$end')", 40), 'the answer becomes complete after a reload of nginx');
    is($page->js("$texts.length"), 2, 'there is one answer');
    ok($page->becomes('document.getElementById("state").textContent === "ready"'), 'nothing is in progress');
}
my $text = $tab->js("$texts\[1]");
is($second->js("$texts\[1]"), $text, 'both pages show the same');
my $third = $browser->tab($address);
ok($third->becomes("$texts.length === 2 && $texts\[1] === " . JSON::PP->new->allow_nonref->encode($text)), 'as does a page that is opened afterwards');
ask($third, 'And then?');
ok($third->becomes("$texts.length === 4 && $texts\[3]?.endsWith('$end')", 40), 'the next question is answered');
$third->screenshot("$ENV{SSE_SCREENSHOTS}/llm-chat.png") if $ENV{SSE_SCREENSHOTS};
my $log = SSE::Cluster::slurp($nginx->dir . '/application.log') // '';
is($log, '', 'the application has no error');
$browser->drop;
ok($app->end, 'the application exits');
$nginx->ends_cleanly;
done_testing();

sub ask ($page, $question) {
    $page->js(<<"EOF_JS");
        (() => {
            const field = document.querySelector("input");
            Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(field, "$question");
            field.dispatchEvent(new Event("input", { bubbles: true }));
            setTimeout(() => field.form.requestSubmit());
        })()
EOF_JS
    return;
}
