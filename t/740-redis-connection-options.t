# Ways to connect to Redis: password, ACL user, TLS, Unix socket, database. A wrong password or an untrusted
# certificate is logged once, retried at a low rate, and works once it is fixed.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use File::Temp;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::Stage;

my $open  = SSE::Redis->start(unix => 1, tls => 1, users => ['app on >p@ss:w/rd ~* &* +@all']);
my $shut  = SSE::Redis->start(password => 'right-secret', tls => 1);
my $port  = $open->port;
my %hub   = (
    database => $open->url(3),
    user     => "redis://app:p%40ss%3Aw%2Frd\@localhost:$port",
    unix     => 'redis+unix://' . $open->socket_path,
    tls      => 'rediss://127.0.0.1:' . $open->tls_port,
    password => $shut->url,
    both     => 'rediss://:right-secret@localhost:' . $shut->tls_port,
    wrong    => 'redis://:wrong-secret@127.0.0.1:' . $shut->port,
    nobody   => "redis://app:wrong-secret\@127.0.0.1:$port",
);
# The CA of the test is not trusted by the machine, so one nginx is configured to trust it.
my $trusting = nginx('env SSL_CERT_FILE=' . bundle() . ';', %hub);
my $strict   = nginx('env SSL_CERT_FILE=/dev/null;', tls => $hub{tls}, plain => "rediss://127.0.0.1:$port");

my @good = qw(database user unix tls password both);
for my $name (@good) {
    ok(wait_for(sub { redis_state($trusting, $name) eq 'up' }, 10), "$name: the hub connects") or diag(redis_state($trusting, $name));
    my $client = stream($trusting, $name);
    my $answer = request(port => $trusting->port, path => "/to/$name", body => 'durable');
    is($answer->{status}, 201, "$name: an event is published");
    ok($client->wait_data('durable'), "$name: the event arrives");
    ($name =~ /\A(?:password|both)\z/ ? $shut : $open)->publish("on-$name", 'plain');
    ok($client->wait_data('plain'), "$name: a plain message arrives");
}
is($open->must('EXISTS', 'sse:{sse}:s:on-database'), 0, 'an event is published in a numbered database');
my $third = $open->connect;
$third->call('SELECT', 3);
is($third->call('EXISTS', 'sse:{sse}:s:on-database'), 1, 'the event is in that database');

# Connections that Redis rejects.
my @vain = ([$trusting, 'wrong'], [$trusting, 'nobody'], [$strict, 'tls'], [$strict, 'plain']);
for my $case (@vain) {
    my ($nginx, $name) = @$case;
    like(redis_state($nginx, $name), qr/\A(?:connecting|down)\z/, "$name: a rejected hub is not up");
    my $client = SSE::Client->new(port => $nginx->port, path => "/on/$name");
    ok($client->wait_open(2), "$name: its streams open");
    is(request(port => $nginx->port, path => "/to/$name", body => 'x')->{status}, 503, "$name: a publish receives 503");
    $client->close;
}
my $before = $shut->info('stats')->{total_connections_received};
serve_for(4);
my $tries = $shut->info('stats')->{total_connections_received} - $before;
cmp_ok($tries, '<=', 20, "retries are limited ($tries in four seconds)");
for my $case (@vain) {
    my ($nginx, $name) = @$case;
    my @lines = grep { !/nothing is published/ } $nginx->wait_lines(qr/\[(?:notice|warn|error|crit)\](?=.*hub "$name")(?=.*redis)/i);
    is(scalar @lines, 1, "$name: the log has one line") or diag(join "\n", @lines);
}
unlike($trusting->error_log . $strict->error_log, qr/secret|ss:w|ss%3Aw/, 'the log contains no password');
unlike(request(port => $trusting->port, path => '/status')->{body}, qr/secret|ss:w|127\.0\.0\.1/, 'the status contains no password');

# Fixed.
$shut->must('CONFIG', 'SET', 'requirepass', 'wrong-secret');
ok(wait_for(sub { redis_state($trusting, 'wrong') eq 'up' }, 15), 'the hub connects when the password is fixed');
$open->must('ACL', 'SETUSER', 'app', '>wrong-secret');
ok(wait_for(sub { redis_state($trusting, 'nobody') eq 'up' }, 15), 'the hub connects when the user is fixed');
my $client = stream($trusting, 'wrong');
$client->wait_open;
is(request(port => $trusting->port, path => '/to/wrong', body => 'let in')->{status}, 201, 'it publishes');
ok($client->wait_data('let in'), 'it receives events');
$strict->configure(main => 'env SSL_CERT_FILE=' . bundle() . ';');
ok($strict->reload, 'nginx reloads and trusts the certificate');
ok(wait_for(sub { redis_state($strict, 'tls') eq 'up' }, 15), 'then that hub connects too');

$_->ends_cleanly for $trusting, $strict;
done_testing();

# Starts an nginx with a hub for each address, each with a channel that can be read and published to.
sub nginx ($main, %url) {
    my @names = sort keys %url;
    return SSE::Cluster->start(
        main => $main,
        http => join("\n", map { "sse_hub $_ { zone 2m; max_event_size 64k; redis $url{$_}; }" } @names) . "\nsse_heartbeat 1s;",
        server => join("\n", 'location = /status { sse_status; }',
            map { "location = /on/$_ { sse_stream on-$_ hub=$_; } location = /to/$_ { sse_publish on-$_ hub=$_; }" } @names),
    );
}

sub redis_state ($nginx, $hub) {
    my $answer = request(port => $nginx->port, path => '/status');
    return $answer && $answer->{json} ? $answer->{json}{hubs}{$hub}{redis} // 'untold' : 'none';
}

sub stream ($nginx, $hub) {
    my $client = SSE::Client->new(port => $nginx->port, path => "/on/$hub");
    wait_for(sub { $client->{last_event_id} ne '' }) or diag("the stream of $hub has no beginning");
    return $client;
}

# The CAs of both servers in one world-readable file.
sub bundle {
    state $file = File::Temp->new;
    SSE::Cluster::write_file("$file", join '', map { SSE::Cluster::slurp($_->ca) } $open, $shut);
    chmod 0644, "$file";
    return "$file";
}
