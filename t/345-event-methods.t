# Streams with non-default settings of nginx's event loop: accept_mutex, multi_accept, poll, and others.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Stage;

my @ways = (
    { name => 'poll',             events => 'use poll;' },
    { name => 'select',           events => 'use select;' },
    { name => 'accept_mutex',     events => 'accept_mutex on; multi_accept on;' },
    { name => 'timer_resolution', main   => 'timer_resolution 50ms;' },
    { name => 'reuseport',        listen => ' reuseport' },
    { name => 'threads',          http   => 'aio threads; sendfile on;', main => 'thread_pool default threads=2;' },
    { name => 'one worker',       workers => 1 },
);
for my $way (@ways) {
    my %options = %$way;
    my $name    = delete $options{name};
    $options{http} = ($options{http} // '') . ' sse_drain 500ms; sse_heartbeat 200ms; sse_retry 50ms;';
    $options{server} = 'location = /s { sse_stream news; }';
    SKIP: {
        my ($status, $said) = SSE::Cluster->new(%options)->check_config;
        skip "$name: not supported by this nginx", 1 if $status && $said =~ /invalid event type|unknown directive|unsupported/;
        subtest $name => sub { works(%options) };
    }
}
done_testing();

sub works (%options) {
    my $stage   = SSE::Stage->new(%options);
    my $nginx   = $stage->cluster;
    my @clients = map { $stage->stream('/s', reconnect => 1) } 1 .. 10;
    $stage->publish('news', 'one', 'x' x 150_000, 'three');
    ok(wait_for(sub { !grep { $_->data < 3 } @clients }), 'events arrive');
    ok(wait_for(sub { !grep { $_->{parser}{comments} < 3 } @clients }), 'heartbeats arrive');
    ok($nginx->reload, 'nginx reloads');
    $stage->publish('news', 'in between');
    ok(wait_for(sub { !grep { $_->{openings} < 2 } @clients }), 'all clients reconnect');
    ok($nginx->wait_old_workers_gone(3), 'the old workers exit');
    $stage->publish('news', 'last');
    ok(wait_for(sub { !grep { $_->data < 5 } @clients }), 'events continue to arrive');
    is(scalar(grep { join(',', map { substr $_, 0, 10 } $_->data) ne 'one,xxxxxxxxxx,three,in between,last' } @clients), 0,
        'each event arrives once and in order');
    $_->close for @clients;
    ok(wait_for(sub { $stage->subscribers('news') == 0 }, 5), 'clients that disconnect are not counted');
    $stage->ends_cleanly;
    return;
}
