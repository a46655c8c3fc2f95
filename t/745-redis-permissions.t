# The permissions that docs/redis.md lists are sufficient, for nginx and for a publisher: Redis denies
# nothing.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Cluster;
use SSE::HTTP qw(request);
use SSE::Redis;
use SSE::RedisStage;

my $docs = SSE::Cluster::slurp("$FindBin::Bin/../docs/redis.md");
my ($commands)  = $docs =~ /ACL SETUSER nginx ([^`]*?)\n\n/              or die 'no user of nginx in docs/redis.md';
my ($publisher) = $docs =~ /ACL SETUSER publisher ([^`]*?)(?:\n\n|\z)/    or die 'no publisher in docs/redis.md';
my ($to_eval)   = $docs =~ /it needs `(\+eval [^`]*)` instead of `\+fcall`/ or die 'no permissions for the script in docs/redis.md';
my %access      = map { $_ => access_of($_) } '`redis_source pubsub`', '`redis_source stream`';
my $nginx       = 'on >secret resetchannels ' . join ' ', $commands =~ /(\+[\w|]+)/g;
is_deeply([$commands =~ /'([~&][^']+)'/g], [split / /, $access{'`redis_source pubsub`'}], 'the command and the table name the same keys and channels');
$publisher =~ s/[\s\\]+/ /g;
$publisher =~ s/'//g;
$publisher .= " $to_eval";
$publisher =~ s/\{sse\}/{shop:}/;

my $redis = SSE::Redis->start(users => [
    "nginx $nginx $access{'`redis_source pubsub`'}", "patterns $nginx ~sse:{shop:}:* &*", "publisher $publisher"]);
my @nginx = (joined($redis, 'nginx'), joined($redis, 'patterns'));
my ($one, $two) = @nginx;

# Events of every kind; streams by name and by pattern.
my @streams = (map({ $_->stream('/on/news') } @nginx), my $like = $two->stream('/like/n%2A'));
is($one->post('news', 'posted')->{status}, 201, 'an event is published over HTTP');
my $batch = request(port => $one->port, path => '/to/news', body => "data: a\n\ndata: b\n\n",
    headers => ['Content-Type' => 'text/event-stream', 'Idempotency-Key' => 'k']);
is($batch->{status}, 201, 'a batch is published over HTTP');
is($redis->must('PUBLISH', 'shop:news', 'plain'), 3, 'a plain message reaches every subscription');
my $writer = $redis->connect(user => 'publisher', password => 'secret');
my $key    = 'sse:{shop:}:s:news';
my $script = SSE::Cluster::slurp("$FindBin::Bin/../lua/publish.lua");
like($writer->call('EVAL', $script, 1, $key, 'evaluated', 'note', 'key'), qr/\A\d+-\d+\z/, 'a publisher runs the script');
my $sha = $writer->call('SCRIPT', 'LOAD', $script);
like($writer->call('EVALSHA', $sha, 1, $key, 'by hash'), qr/\A\d+-\d+\z/, 'a publisher runs the script by its hash');
is($writer->call('PUBLISH', 'shop:news', 'last'), 3, 'a publisher sends a plain message');
SKIP: {
    skip 'Redis before 7.0 has no functions', 1 if SSE::Redis::version() < 7000;
    $redis->must('FUNCTION', 'LOAD', 'REPLACE', SSE::Cluster::slurp("$FindBin::Bin/../lua/sse.lua"));
    like($writer->call('FCALL', 'sse_publish', 1, $key, 'called'), qr/\A\d+-\d+\z/, 'a publisher calls the function');
}
ok($_->wait_data('last'), 'every stream receives them') for @streams;
$redis->must('PUBLISH', 'shop:nobody', 'unnamed');
ok($like->wait_data('unnamed'), 'a stream with a pattern receives a channel of its own');

# History, a reload, and an administrator.
$one->publish('many', 1 .. 150);
ok($two->stream('/all/many', last_event_id => '0-0')->wait_data(150), 'history is fetched');
$two->cluster->reload;
ok($two->wait_up, 'a reload hands the subscription over');
is($two->post('news', 'after')->{status}, 201, 'publishing continues');
is(request(port => $one->port, path => '/admin?channel=many', method => 'DELETE')->{status}, 200, 'a channel is deleted');
denied_nothing($redis, 'redis_source pubsub');
$_->ends_cleanly for @nginx;

# redis_source stream.
my $streams = SSE::Redis->start(notify => 'Kt', users => ["nginx $nginx +xread $access{'`redis_source stream`'}"]);
my $third   = joined($streams, 'nginx', 'redis_source stream;');
my $open    = $third->stream('/on/news');
$streams->must('XADD', 'shop:news', '*', 'data', 'added');
ok($open->wait_data('added'), 'an entry is delivered');
is($third->post('news', 'posted')->{status}, 201, 'an entry is added over HTTP');
ok($open->wait_data('posted'), 'it is delivered too');
$streams->must('CONFIG', 'SET', 'notify-keyspace-events', '');
$streams->must('XADD', 'shop:many', '*', 'data', 'x');
ok($third->stream('/all/many')->wait_data('x'), 'history is read');
$streams->must('DEL', 'shop:news');
$streams->must('XADD', 'shop:news', '1-1', 'data', 'anew');
ok($open->wait_data('anew'), 'a Redis stream that starts over is read');
is(request(port => $third->port, path => '/admin?channel=news', method => 'DELETE')->{status}, 200, 'a channel is deleted');
denied_nothing($streams, 'redis_source stream');
$third->ends_cleanly;

# A publisher that may write a channel's stream but not send to the channel: its event is taken back.
my $narrow = SSE::Redis->start(users => ["narrow $publisher" =~ s/&\*/&another/r]);
my $refused = $narrow->connect(user => 'narrow', password => 'secret')->call('EVAL', $script, 1, $key, 'not sent');
like($refused, qr/NOPERM|No permissions|can't (?:access|publish)/i, 'Redis refuses an event whose channel is forbidden');
is($narrow->must('XLEN', $key), 0, 'the event does not stay in the stream');

done_testing();

# The keys and channels in a row of the table.
sub access_of ($row) {
    my ($cells) = $docs =~ /^\| \Q$row\E \| (.*) \|$/m or die "no row $row in docs/redis.md";
    return join ' ', $cells =~ /`([~&][^`]+)`/g;
}

# Starts an nginx that connects as this user.
sub joined ($redis, $user, $source = '') {
    my $like = $source ? '' : 'location ~ ^/like/(.+)$ { sse_stream $1 pattern; }';
    return SSE::RedisStage->new(
        redis  => $redis->url =~ s{//}{//$user:secret@}r,
        hub    => "redis_prefix shop:; $source",
        server => "location /admin { sse_admin; } $like",
    );
}

# The name that a connection gives itself is the one thing that may be denied.
sub denied_nothing ($redis, $what) {
    my @denied = grep { !/: command client\|setinfo\z/ } map { my %entry = @$_; "$entry{username}: $entry{reason} $entry{object}" } @{ $redis->must('ACL', 'LOG') };
    is(join(', ', @denied), '', "Redis denies nothing with $what");
    return;
}
