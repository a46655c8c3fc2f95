# The example configurations in nginx-conf/ work as their comments say, with the nginx modules that they
# use.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Digest::MD5 qw(md5_base64);
use Test::More;
use SSE::Client;
use SSE::ExampleConfig;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);

my $nginx;

runs('demo', sub {
    like(get('/')->{body}, qr/EventSource/, 'the page is served');
    is(post('/publish', 'early')->{status}, 201, 'publishing works');
    my $stream = stream('/stream');
    ok($stream->wait_data('early'), 'a new client receives the retained event');
    is(get('/status')->{json}{hubs}{default}{subscribers}, 1, 'the status counts the stream');
});

runs('chat', sub {
    my ($kitchen, $lobby, $strange) = map { stream("/chat/stream$_") } '?room=kitchen', '', '?room=sse.presence';
    post('/chat/say?room=kitchen', 'dinner');
    post('/chat/say', 'hello');
    ok($kitchen->wait_data('dinner'), 'map: a room is a channel');
    ok($_->wait_data('hello'), 'map: any other name maps to the lobby') for $lobby, $strange;
    is_deeply([$kitchen->data], ['dinner'], 'events of one room do not reach another');
    my @more = map { stream('/chat/stream') } 1 .. 17;
    is(scalar(grep { $_->is_open } @more), 17, 'limit_conn: twenty streams from one address are accepted');
    my $late = SSE::Client->new(port => $nginx->port, path => '/chat/stream');
    ok(wait_for(sub { $late->{state} eq 'ended' || $late->{state} eq 'failed' }, 5), 'one more is not accepted');
    is($late->{status}, undef, 'its connection is closed without a status, so that a browser retries');
    my %said;
    $said{ post('/chat/say', 'spam')->{status} }++ for 1 .. 12;
    cmp_ok($said{429} // 0, '>=', 4, 'limit_req: a client that publishes too often receives 429');
});

runs('prices', sub {
    post('/prices/gold', $_) for 1 .. 3;
    post('/prices/silver', 7);
    my $stream = stream('/prices?of=gold,silver');
    post('/prices/gold', 4);
    ok(wait_for(sub { 3 == $stream->events('price') }), 'events arrive with their types');
    is(join(' ', map { $_->{data} } $stream->events('price')), '3 7 4', 'a stream begins with the newest event of each channel');
    is(get('/status')->{json}{hubs}{news}{events_in}, 0, 'the other hub is unaffected');
});

runs('per-user', sub {
    is(get('/notifications')->{status}, 401, 'auth_request: a request without a session is rejected');
    my ($ann, $bob) = map { stream('/notifications', headers => [Cookie => "user=$_"]) } qw(ann bob);
    post('/notify/ann', 'for Ann');
    post('/notify-all', 'for all');
    ok($_->wait_data('for all'), 'every user receives the shared events') for $ann, $bob;
    is_deeply([$ann->data], ['for Ann', 'for all'], 'each user receives their own events');
    is_deeply([$bob->data], ['for all'], 'no user receives the events of others');
});

runs('app-decides', sub {
    my $stream = stream('/documents/42/changes');
    is(get('/documents/43/changes')->{status}, 404, 'the application denies the stream');
    is(get('/stream/document:43')->{status}, 404, 'the internal location is not accessible directly');
    post('/publish/document:42', 'a change');
    ok($stream->wait_data('a change'), 'X-Accel-Redirect: the application grants the stream');
});

runs('signed', sub {
    my $address = sub ($channel, $until, $secret = 'a secret') {
        my $signature = md5_base64("$until $channel $secret") =~ tr{+/}{-_}r;
        return "/stream/$channel?until=$until&signature=$signature";
    };
    my $soon   = time + 60;
    my $signed = $address->('orders', $soon);
    my $stream = stream($signed);
    post('/publish/orders', 'an order');
    ok($stream->wait_data('an order'), 'secure_link: a signed URL opens a stream');
    is(get($signed =~ s/orders/bills/r)->{status}, 403, 'the stream has no events of other channels');
    is(get($address->('orders', $soon, 'a guess'))->{status}, 403, 'a wrong signature is rejected');
    is(get($address->('orders', time - 1))->{status}, 403, 'an expired signature is rejected');
    is(get('/stream/orders')->{status}, 403, 'a URL without a signature is rejected');
});

runs('beside-an-application', sub {
    is(get('/')->{body}, "an application\n", 'proxy_pass: the application serves the same site');
    my $stream = stream('/events');
    is(post('/say', 'hello')->{status}, 201, 'the browser publishes through the public location');
    is(post('/publish', 'from within')->{status}, 201, 'the application publishes through the internal location');
    ok($stream->wait_data('from within'), 'both arrive');
    is_deeply([$stream->data], ['hello', 'from within'], 'once');
    ok(wait_for(sub { $nginx->access_log =~ m{"POST /kept HTTP/1\.[01]" 204} }, 5), 'mirror: the application receives a copy');
    is(() = $nginx->access_log =~ m{"POST /kept}g, 1, 'only requests to that location are mirrored');
    my @opened = map { SSE::Client->new(port => $nginx->port, path => '/events') } 1 .. 20;
    ok(wait_for(sub { !grep { $_->{state} =~ /\A(?:connecting|waiting)\z/ } @opened }, 5), 'twenty streams are requested at once');
    my $let_in = grep { $_->is_open } @opened;
    ok($let_in >= 5 && $let_in < 20, "limit_req: $let_in are accepted");
    is(scalar(grep { defined $_->{status} && $_->{status} != 200 } @opened), 0, 'the others are closed without a status, so that a browser retries');
});

runs('page-position', sub {
    post('/publish', 'before the page');
    my ($position) = get('/')->{body} =~ /position = '([-0-9]+)'/;
    ok($position, 'the application receives the position');
    post('/publish', 'meanwhile');
    my $stream = stream("/events?last_event_id=$position");
    post('/publish', 'afterwards');
    ok($stream->wait_data('afterwards'), 'the stream of the page receives new events');
    is_deeply([$stream->data], ['meanwhile', 'afterwards'], 'and those that were published since the page was rendered');
});

runs('llm-chat', sub {
    my $question = sub { SSE::Client->new(port => $nginx->port, path => '/api/chat/17', method => 'POST',
        headers => ['Content-Length' => 0]) };
    is(get('/api/chat/17/stream')->{status}, 204, 'nothing is in progress');
    my @parts = map { qq({"delta":"$_"}) } 1 .. 40;
    post('/publish/chat:17', $parts[0]);
    my $chat = $question->();
    ok($chat->wait_data($parts[0]), 'X-Accel-Redirect: a POST is answered with the stream');
    is($chat->header('x-vercel-ai-ui-message-stream'), 'v1', 'with the header of the protocol');
    post('/publish/chat:17', $_) for @parts[1 .. 39];
    my $reloaded = stream('/api/chat/17/stream');
    ok($reloaded->wait_data($parts[39]), 'sse_replay run: a page that is reloaded receives the answer so far');
    post('/publish/chat:17?finish=1', '[DONE]');
    ok(wait_for(sub { 2 == grep { @{ $_->{ends} } } $chat, $reloaded }, 5), 'both end when the answer is complete');
    is_deeply([[$_->types], [$_->data]], [[('message') x 41], [@parts, '[DONE]']], 'with all of it, and nothing else')
        for $chat, $reloaded;
    is(get('/api/chat/17/stream')->{status}, 204, 'nothing is in progress any more');
    is(get('/api/chat/18/stream')->{status}, 404, 'the application denies another chat');
    is(get('/stream/chat:17')->{status}, 404, 'the internal location is not accessible directly');
});

runs('job-progress', sub {
    post('/steps/build-7', "step $_") for 1 .. 3;
    my $job = stream('/jobs/build-7');
    post('/steps/build-7?event=done&finish=1', '0');
    ok(wait_for(sub { @{ $job->{ends} } }, 5), 'the stream of a job ends with the job');
    is(join(' ', map { $_->{data} } @{ $job->{events} }), 'step 1 step 2 step 3 0', 'a page that opens late receives all steps');
    my $late = SSE::Client->new(port => $nginx->port, path => '/jobs/build-7');
    ok(wait_for(sub { @{ $late->{ends} } }, 5), 'so does a page that opens afterwards');
    is_deeply([$late->types], [('message') x 3, 'done'], 'with their types');
    my @id = ('Last-Event-ID' => $late->{last_event_id});
    is(request(port => $nginx->port, path => '/jobs/build-7', headers => \@id)->{status}, 204, 'and stops when it returns');
});

runs('since', sub {
    my ($early, $late) = map { post('/publish', $_)->{json}{id} =~ s/-.*//r } 'early', 'late';
    my $log = stream("/log?since=$early");
    ok($log->wait_data('late'), 'a stream begins with what was published since a time');
    is_deeply([$log->data], ['early', 'late'], 'in milliseconds since 1970');
    my $new = stream('/log?since=' . ($late + 60_000));
    post('/publish', 'new');
    ok($_->wait_data('new'), 'new events follow') for $log, $new;
    is_deeply([$new->data], ['new'], 'and nothing else if the time has not come');
    my $again = stream('/log?since=0', last_event_id => $log->{last_event_id});
    post('/publish', 'newer');
    ok($again->wait_data('newer'), 'the page reconnects');
    is_deeply([$again->data], ['newer'], 'and continues after its last event');
});

runs('own-streams', sub {
    my $stream = stream('/answers/42');
    for my $data ('one', 'two') {
        post('/publish', $data);
        ok($stream->wait_data($data), "event '$data' of the application arrives at once");
    }
    is($stream->header('content-type'), 'text/event-stream', 'as an event stream');
});

runs('many-clients', sub {
    my @streams = map { stream('/stream') } 1 .. 50;
    is(post('/publish', 'to all')->{status}, 201, 'publishing works');
    ok(wait_for(sub { 50 == grep { grep { $_ eq 'to all' } $_->data } @streams }, 5), 'every client receives the event');
    my $lean = get('/status')->{json}{hubs}{default}{lean};
    is("$lean->{lean} $lean->{ordinary}", '50 0', 'all streams are lean');
});

done_testing();

sub runs ($name, $test) {
    subtest $name => sub {
        my %takes  = ('per-user' => 'http_auth_request', signed => 'http_secure_link', 'many-clients' => 'http_ssl');
        my $module = $takes{$name};
        plan skip_all => "nginx is built without ${module}_module" if $module && !has_module($module);
        $nginx = SSE::ExampleConfig->start(name => $name);
        $test->();
        $nginx->ends_cleanly;
    };
    return;
}

sub get  ($path)        { return request(port => $nginx->port, path => $path, timeout => 5) }
sub post ($path, $body) { return request(port => $nginx->port, path => $path, body => $body, timeout => 5) }

sub stream ($path, %options) {
    my $client = SSE::Client->new(port => $nginx->port, path => $path, %options);
    $client->wait_open or diag("$path did not open: $client->{state} " . ($client->{status} // '-'));
    return $client;
}
