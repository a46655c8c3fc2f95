# A real browser with tokens in cookies: a page that renews its cookie on sse.expires stays connected and misses
# nothing, and one whose token is refused stops.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Backend;
use SSE::Browser;
use SSE::Loop qw(serve_for wait_for);
use SSE::Stage;
use SSE::Token qw(token $SECRET);

plan skip_all => 'the browser is not installed (on Ubuntu it is a snap, which scripts/test does not install)' if !SSE::Browser::path();

# How long a token is valid, in seconds.
my $LIFETIME = 4;

my $page = <<'EOF_PAGE';
<!DOCTYPE html><title>tokens</title><script>
const heard = {};
function listen(name, address, renewal) {
  const source = new EventSource(address);
  const kept = heard[name] = { data: [], opens: 0, gaps: 0, renewals: 0, source };
  source.onopen = () => kept.opens++;
  source.onmessage = event => kept.data.push(event.data);
  source.addEventListener("sse.gap", () => kept.gaps++);
  source.addEventListener("sse.expires", async () => {
    kept.renewals++;
    if (renewal) await fetch(renewal, { method: "POST" });
  });
  return true;
}
</script>
EOF_PAGE

my $application = SSE::Backend->new('http10');
my $renewals    = $application->port;
my $stage       = SSE::Stage->new(
    http   => 'sse_hub default { history 10000; } sse_retry 100ms; sse_jwt_key %%DIR%%/secret secret;',
    server => <<"EOF_CONFIG",
        location = /renewed { sse_jwt cookie=session; sse_expires event=sse.expires before=2s; sse_stream news; }
        location = /expires { sse_jwt cookie=once; sse_expires event=sse.expires before=2s; sse_stream news; }
        location = /user    { sse_jwt cookie=session; sse_stream "user:\$sse_jwt_claim_sub"; }
        location /login     { proxy_pass http://127.0.0.1:$renewals; }
        location = /admin   { sse_admin; }
EOF_CONFIG
    files => { 'page.html' => $page, secret => $SECRET },
);

my $browser = SSE::Browser->new;
my $tab     = $browser->tab('http://127.0.0.1:' . $stage->port . '/page.html');
diag($browser->version);
$tab->js("fetch('/login/$_', { method: 'POST' }); 0") for qw(session once);
ok(wait_for(sub { logs_in() && $tab->js('true') && logs_in(2) }, 10), 'the application sets cookies');
serve_for(0.3);
$tab->js("listen('renewed', '/renewed', '/login/session')");
$tab->js("listen('expires', '/expires')");
ok($tab->becomes('heard.renewed.opens === 1 && heard.expires.opens === 1'), 'both streams are open');

my (@data, $end);
$end = time + 3 * $LIFETIME + 2;
while (time < $end || $tab->js('heard.renewed.opens') < 4) {
    logs_in();
    push @data, 'event ' . @data;
    $stage->publish('news', $data[-1]);
    serve_for(0.02);
    last if time > $end + 60;
}
ok(until_it('heard.renewed.data.at(-1) === ' . "'$data[-1]'"), 'the page that renews its cookie receives the last event');
cmp_ok($tab->js('heard.renewed.opens'), '>=', 4, 'its stream has ended with three tokens');
cmp_ok($tab->js('heard.renewed.renewals'), '>=', 3, 'it renewed its cookie on each event before an end');
is($tab->js('heard.renewed.data.join("|")'), join('|', @data), 'it has received everything once and in order');
is($tab->js('heard.renewed.gaps'), 0, 'without a gap event');

ok(until_it('heard.expires.source.readyState === EventSource.CLOSED'), 'the page whose token is refused stops');
is($tab->js('heard.expires.opens'), 1, 'it has had one stream');
is($tab->js('heard.expires.renewals'), 1, 'and received the event before its end');
my $received = $tab->js('heard.expires.data.length');
cmp_ok($received, '>', 0, 'it has received events');
cmp_ok($received, '<', scalar @data, 'until its token expired');

# A client whose user is disconnected returns.
$tab->js("listen('user', '/user')");
ok(until_it('heard.user.opens === 1'), 'a stream of a user');
is(SSE::HTTP::request(port => $stage->port, method => 'DELETE', path => '/admin?user=browser')->{status}, 202, 'the user is disconnected');
ok(until_it('heard.user.opens === 2'), 'the page returns');
$stage->publish('user:browser', 'again');
ok(until_it('heard.user.data.at(-1) === "again"'), 'and continues');

$tab->close;
$browser->drop;
$application->drop;
$stage->ends_cleanly;
done_testing();

# Answers the requests for new cookies, and returns whether at least this many ever were.
sub logs_in ($count = 0) {
    state $answered = 0;
    while (my $request = shift @{ $application->{requests} }) {
        my ($name) = $request->{buffer} =~ m{\APOST /login/(\w+)} or die 'no name';
        my $token  = token({ sub => 'browser', exp => time + $LIFETIME });
        $request->head(Status => '204 No Content', 'Set-Cookie' => "$name=$token; Path=/; HttpOnly; SameSite=Lax");
        $request->finish;
        $answered++;
    }
    return $answered >= $count;
}

# Waits until a JavaScript expression is true, while cookies are renewed.
sub until_it ($expression) {
    return wait_for(sub { logs_in(); serve_for(0.02); $tab->js("!!($expression)") }, 20);
}
