# The configurations of nginx-conf/ do what they say, with the modules of nginx that they are made of.

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
    like(get('/')->{body}, qr/EventSource/, 'the page is there');
    is(post('/publish', 'early')->{status}, 201, 'publishing works');
    my $stream = stream('/stream');
    ok($stream->wait_data('early'), 'who comes sees what was there');
    is(get('/status')->{json}{hubs}{default}{subscribers}, 1, 'the status counts');
});

runs('chat', sub {
    my ($kitchen, $lobby, $strange) = map { stream("/chat/stream$_") } '?room=kitchen', '', '?room=sse.presence';
    post('/chat/say?room=kitchen', 'dinner');
    post('/chat/say', 'hello');
    ok($kitchen->wait_data('dinner'), 'map: a room is a channel');
    ok($_->wait_data('hello'), 'map: what is no room is the lobby') for $lobby, $strange;
    is_deeply([$kitchen->data], ['dinner'], 'rooms are apart');
    my @more = map { stream('/chat/stream') } 1 .. 17;
    is(scalar(grep { $_->is_open } @more), 17, 'limit_conn: twenty streams of one address are let in');
    my $late = SSE::Client->new(port => $nginx->port, path => '/chat/stream');
    ok(wait_for(sub { $late->{state} eq 'ended' || $late->{state} eq 'failed' }, 5), 'one more is not');
    is($late->{status}, undef, 'it gets no status, so a browser tries again');
    my %said;
    $said{ post('/chat/say', 'spam')->{status} }++ for 1 .. 12;
    cmp_ok($said{429} // 0, '>=', 4, 'limit_req: who speaks too fast is held back with 429');
});

runs('prices', sub {
    post('/prices/gold', $_) for 1 .. 3;
    post('/prices/silver', 7);
    my $stream = stream('/prices?of=gold,silver');
    post('/prices/gold', 4);
    ok(wait_for(sub { 3 == $stream->events('price') }), 'events arrive by their type');
    is(join(' ', map { $_->{data} } $stream->events('price')), '3 7 4', 'first the newest of each channel, then what is new');
    is(get('/status')->{json}{hubs}{news}{events_in}, 0, 'the other hub has none of it');
});

runs('per-user', sub {
    is(get('/notifications')->{status}, 401, 'auth_request: a stranger is refused');
    my ($ann, $bob) = map { stream('/notifications', headers => [Cookie => "user=$_"]) } qw(ann bob);
    post('/notify/ann', 'for Ann');
    post('/notify-all', 'for all');
    ok($_->wait_data('for all'), 'everyone hears what is for all') for $ann, $bob;
    is_deeply([$ann->data], ['for Ann', 'for all'], 'and their own');
    is_deeply([$bob->data], ['for all'], 'and nobody else\'s');
});

runs('app-decides', sub {
    my $stream = stream('/documents/42/changes');
    is(get('/documents/43/changes')->{status}, 404, 'the application says no');
    is(get('/stream/document:43')->{status}, 404, 'and there is no way around it');
    post('/publish/document:42', 'a change');
    ok($stream->wait_data('a change'), 'X-Accel-Redirect: the application says yes');
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
    ok($stream->wait_data('an order'), 'secure_link: a signed address is a stream');
    is(get($signed =~ s/orders/bills/r)->{status}, 403, 'of no other channel');
    is(get($address->('orders', $soon, 'a guess'))->{status}, 403, 'a guess is none');
    is(get($address->('orders', time - 1))->{status}, 403, 'nor is one that has expired');
    is(get('/stream/orders')->{status}, 403, 'nor one without a signature');
});

runs('beside-an-application', sub {
    is(get('/')->{body}, "an application\n", 'proxy_pass: the application answers beside the streams');
    my $stream = stream('/events');
    is(post('/say', 'hello')->{status}, 201, 'a browser publishes');
    is(post('/publish', 'from within')->{status}, 201, 'so does the application');
    ok($stream->wait_data('from within'), 'both arrive');
    is_deeply([$stream->data], ['hello', 'from within'], 'once');
    ok(wait_for(sub { $nginx->access_log =~ m{"POST /kept HTTP/1\.0" 204} }, 5), 'mirror: the application gets its copy');
    is(() = $nginx->access_log =~ m{"POST /kept}g, 1, 'of what is said to it, and of nothing else');
    my @opened = map { SSE::Client->new(port => $nginx->port, path => '/events') } 1 .. 20;
    ok(wait_for(sub { !grep { $_->{state} =~ /\A(?:connecting|waiting)\z/ } @opened }, 5), 'twenty streams are asked for at once');
    my $let_in = grep { $_->is_open } @opened;
    ok($let_in >= 5 && $let_in < 20, "limit_req: $let_in are let in");
    is(scalar(grep { defined $_->{status} && $_->{status} != 200 } @opened), 0, 'the others get no status, so a browser tries again');
});

runs('many-clients', sub {
    my @streams = map { stream('/stream') } 1 .. 50;
    is(post('/publish', 'to all')->{status}, 201, 'publishing works');
    ok(wait_for(sub { 50 == grep { grep { $_ eq 'to all' } $_->data } @streams }, 5), 'every client has it');
    my $lean = get('/status')->{json}{hubs}{default}{lean};
    is("$lean->{lean} $lean->{ordinary}", '50 0', 'the requests of all were given back');
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
