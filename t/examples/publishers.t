# The publishers of examples/publishers: each publishes over HTTP and through Redis.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Process;
use SSE::Redis;
use SSE::RedisStage;

my $built = $ENV{SSE_EXAMPLES} or plan skip_all => 'scripts/test examples runs this file';
my $redis = SSE::Redis->start;
my $stage = SSE::RedisStage->new(redis => $redis->url, server => 'location = /messages { sse_stream messages; } location = /say { sse_publish messages; }');
ok($stage->wait_up, 'Redis is connected');
my $stream = $stage->stream('/messages');

# Below target/examples, where Node.js finds its packages.
my %command = (
    'publish.py'  => ['/usr/bin/python3'],
    'publish.mjs' => ['node'],
    'publish.php' => ['php'],
    'publish.rb'  => ['ruby'],
    'publish.go'  => ['go', 'run'],
    'publish.sh'  => ['sh'],
);
is(join(' ', sort keys %command), join(' ', sort map { s{.*/}{}r } glob "$built/publishers/publish.*"), 'all of them are tested');
my ($address) = $redis->url =~ m{//([^/]+)};
for my $name (sort keys %command) {
    my $url = $name eq 'publish.go' ? $address : $redis->url;
    for my $arguments (['http', 'http://127.0.0.1:' . $stage->port . '/say'], ['redis', $url, 'messages']) {
        my $text = "$name $arguments->[0]: \"Größe\"\n& zwei";
        my $log  = $stage->cluster->dir . '/publisher.log';
        my $run  = SSE::Process->start($log, @{ $command{$name} }, "$built/publishers/$name", @$arguments, $text);
        ok($stream->wait_data($text, 60), "$name publishes with $arguments->[0]") or diag(SSE::Cluster::slurp($log));
        ok(wait_for(sub { $run->is_gone }, 10), 'and ends');
    }
}
is(scalar(my @all = $stream->data), 12, 'each event was published once');
$stream->close;
$stage->ends_cleanly;
done_testing();
