# Answers of a language model that belong to nginx, with the configuration nginx-conf/llm-chat.conf, an application,
# and the packages of Vercel and OpenAI: pages are closed and opened again, nginx reloads, and a worker is killed, but
# the model is asked once.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Test::More;
use SSE::ExampleConfig;
use SSE::ExternalClient;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(free_port);
use SSE::Process;

plan skip_all => 'scripts/test clients runs this file' if !$SSE::ExternalClient::packages;

my $app_port = free_port();
my $nginx    = SSE::ExampleConfig->start(name => 'llm-chat', application => $app_port);
my $site     = 'http://127.0.0.1:' . $nginx->port;
my $app      = SSE::Process->start($nginx->dir . '/application.log', SSE::ExternalClient::node(),
    "$FindBin::Bin/application.mjs", $app_port, "$site/publish");
ok(wait_for(sub { defined calls() }), 'the application runs') or diag(SSE::Cluster::slurp($nginx->dir . '/application.log'));

# A chat whose page is loaded again in the middle of an answer.
my $page = page('send');
ok(wait_for(sub { $page->reported('chunk') >= 2 }), 'the answer to the POST is the stream');
says('chat:17', 'A stream');
ok(wait_for(sub { text($page) eq 'A stream' }), 'the page receives what the model says');
$page->drop;
says('chat:17', ' is');
$page = page('resume');
ok(wait_for(sub { text($page) eq 'A stream is' }), 'a page that is loaded again receives the answer from its beginning');
is(join(' ', $page->reported('chunk')), 'start text-start', 'with its first parts');
says('chat:17', ' a');
ok(wait_for(sub { text($page) eq 'A stream is a' }), 'and then the rest');

for my $interruption (['a reload of nginx', sub { $nginx->reload }], ['a killed worker', sub { $nginx->kill_worker($_) for $nginx->workers }]) {
    my ($name, $interrupt) = @$interruption;
    $interrupt->();
    ok(wait_for(sub { $page->reported('end') }, 40), "$name: the stream ends");
    is(($page->reported('end'))[0], 'error', "$name: the SDK reports an error instead of half an answer");
    $page = page('resume');
    ok(wait_for(sub { text($page) eq 'A stream is a' }), "$name: the page reads it again from its beginning");
}
my $second = page('resume');
ok(wait_for(sub { text($second) eq 'A stream is a' }), 'so does a second page');
says('chat:17', ' river.');
says('chat:17', '');
for my $reader ($page, $second) {
    ok(wait_for(sub { $reader->reported('end') }), 'the stream ends with the answer');
    is(($reader->reported('end'))[0], 'complete', 'cleanly');
    is(text($reader), 'A stream is a river.', 'and all of it has arrived');
    is(($reader->reported('chunk'))[-1], 'finish', 'up to its last part');
}
is(calls(), 1, 'the model was asked once');

my $idle = page('resume');
ok(wait_for(sub { $idle->reported('end') }), 'a page that is loaded after the end');
is_deeply([$idle->reports], [{ active => JSON::PP::false }, { end => 'complete' }], 'learns that nothing is active');

my $next = page('send');
ok(wait_for(sub { $next->reported('chunk') >= 2 }), 'the next question of the chat');
says('chat:17', 'Yes.');
says('chat:17', '');
ok(wait_for(sub { $next->reported('end') }), 'is answered');
is(text($next), 'Yes.', 'without the former answer');
is(calls(), 2, 'by another call of the model');

# Chat completions.
for my $driver ('openai-node.mjs', 'openai-python.py') {
    my $before = calls();
    my $client = SSE::ExternalClient->start(driver => $driver, address => "$site/api/v1");
    ok(wait_for(sub { calls() > $before }), "$driver: asks for a completion");
    says('completion:none', $_) for 'one ', 'two ', 'three';
    ok(wait_for(sub { text($client) eq 'one two three' }), "$driver: receives it");
    says('completion:none', '');
    ok(wait_for(sub { $client->reported('end') }), "$driver: it ends");
    is(($client->reported('end'))[0], 'complete', "$driver: completely") or diag(explain([$client->reports]));
    is(calls(), $before + 1, "$driver: the model was asked once");
}
ok($app->end, 'the application exits');
$nginx->ends_cleanly;
done_testing();

# A page of chat 17.
sub page ($action) {
    return SSE::ExternalClient->start(driver => 'ai-sdk-chat.mjs', address => "$site/api/chat", arguments => ['17', $action]);
}

sub text ($client) { return join '', $client->reported('event') }

# Makes the model say a text; an empty one is the end of its answer.
sub says ($channel, $text) {
    my $answer = request(port => $app_port, path => "/model/$channel", body => $text);
    is($answer->{status}, 200, "the model says '$text'") or diag($answer->{body});
    return;
}

# How often the model was asked.
sub calls {
    my $answer = request(port => $app_port, path => '/model/calls') or return;
    return $answer->{header}{'x-calls'}[0];
}
