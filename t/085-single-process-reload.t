# A reload of nginx without a master process: nginx would unmap the memory of a hub that the new configuration
# does not have while the same process continues to use it.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $hubs  = 'sse_hub news { zone 2m; max_event_size 64k; } sse_hub chat { zone 2m; max_event_size 64k; }';
my $rest  = 'location = /s { sse_stream a hub=news; } location = /p { sse_publish a hub=news; }';
my %refused = (
    'a hub of another size' => { http => $hubs =~ s/zone 2m/zone 4m/r, server => $rest },
    'a hub of another name' => { http => $hubs =~ s/news/sport/r, server => $rest =~ s/news/sport/gr },
    'larger events'         => { http => $hubs =~ s/64k/32k/r, server => $rest },
    'one hub less'          => { http => $hubs =~ s/sse_hub chat.*//r, server => $rest },
    'no hub'                => { http => '', server => 'location / { return 204; }' },
);
for my $title (sort keys %refused) {
    my $nginx  = SSE::Cluster->start(workers => 1, master => 0, http => $hubs, server => $rest);
    my $client = SSE::Client->new(port => $nginx->port, path => '/s');
    ok($client->wait_open, "$title: a stream");
    $nginx->allow(qr/\[emerg\] .*a reload cannot replace or remove a hub/);
    $nginx->configure(%{ $refused{$title} });
    kill 'HUP', $nginx->pid;
    ok(wait_for(sub { $nginx->is_gone || $nginx->error_log =~ /\[emerg\] .*restart nginx/ }), '... the reload is refused');
    ok(!$nginx->is_gone, '... nginx runs');
    publish($nginx, 'after the reload');
    ok($client->wait_data('after the reload'), '... and the stream continues');
    $client->close;
    is(($nginx->check_config)[0], 0, '... the configuration is valid when nginx starts');
    $nginx->ends_cleanly;
}
done_testing();

sub publish ($nginx, $data) {
    my $publisher = SSE::Publisher->new(port => $nginx->port, path => '/p');
    $publisher->publish($data);
    $publisher->drop;
    return;
}
