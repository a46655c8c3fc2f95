# The file of the module is replaced while nginx runs, as an upgrade of its package does. A reload continues with the
# loaded module and loses nothing, and the error log says so. An upgrade of the binary (USR2) loads the new file:
# without Redis clients receive one gap event, and with Redis nothing is lost.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use File::Copy qw(copy);
use File::Temp;
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Nginx;
use SSE::Publisher;
use SSE::Redis;
use SSE::Stage;

plan skip_all => 'the module is part of the binary' if ($ENV{SSE_MODULE} // '') eq 'static';

my $dir    = File::Temp->newdir('sse-module-XXXXXXXX', TMPDIR => 1);
my $module = SSE::Nginx::module();
chmod 0755, $dir;
replace('one.so');
local $ENV{SSE_MODULE} = "$dir/one.so";

my $redis = SSE::Redis->start;
my $stage = SSE::Stage->new(
    daemon => 'on',
    http   => 'sse_retry 100ms; sse_drain 300ms; sse_hub default { history 1000; }'
        . " sse_hub joined { history 1000; redis @{[$redis->url]}; }",
    server => <<'EOF_CONFIG',
        location = /s       { sse_stream news; }
        location = /lean    { sse_stream news; sse_lean on; }
        location = /durable { sse_stream news hub=joined; }
        location = /publish { sse_publish news hub=joined; }
        location = /status  { sse_status; }
EOF_CONFIG
);
my $nginx = $stage->cluster;
ok(wait_for(sub { ($stage->status('joined')->{redis} // '') eq 'up' }), 'the hub with Redis is connected');
my @local   = map { $stage->stream($_, reconnect => 1) } '/s', '/lean';
my @durable = map { $stage->stream('/durable', reconnect => 1) } 1 .. 3;
wait_for(sub { !grep { $_->{last_event_id} eq '' } @local, @durable });
my $writer = SSE::Publisher->new(port => $stage->port, path => '/publish');
$writer->stream(50, sub ($number) { $number });
my $sent = 0;
publish();

# The same path.
is(replaced_lines(), 0, 'the error log has no line about the file of the module');
for my $round (1, 2) {
    replace('one.so');
    reload();
    is(replaced_lines(), $round, 'the file is replaced: the error log says that nginx continues with the loaded module');
    is(empty_lines(), 0, 'no hub starts empty');
    publish();
}
gaps(0);

# A new binary loads the new file.
my ($old, $new) = ($nginx->pid, $nginx->start_new_master);
ok($new, 'USR2 starts a second master');
kill 'QUIT', $old;
ok(wait_for(sub { $nginx->is_gone }, 20), 'the old master exits');
$nginx->adopt($new);
gaps(1);
publish();
reload();
is(replaced_lines(), 2, 'it has loaded the new file');
publish();

# Another path: symbols of a library that nginx opens belong to the first one that has them, which is still open.
replace('two.so');
$ENV{SSE_MODULE} = "$dir/two.so";
$nginx->configure;
for my $round (1, 2) {
    reload();
    publish();
}
is(empty_lines(), 0, 'load_module names another file: no hub starts empty');
gaps(1);

my @published = map { "event $_" } 1 .. $sent;
is(scalar(grep { "@{[$_->data]}" ne "@published" } @local), 0, 'each event of the hub in memory arrived once and in order');
$writer->stop;
ok($writer->wait_idle, 'every publish with Redis receives a response');
my @all = map { $_->{data} } $writer->accepted;
ok(wait_for(sub { !grep { $_->data < @all } @durable }), 'all events from Redis arrive');
is(scalar(grep { "@{[$_->data]}" ne "@all" } @durable), 0, 'once and in order');
is(scalar(map { $_->events('sse.gap') } @durable), 0, 'without a gap event');
$stage->ends_cleanly;
done_testing();

# Renames a copy into place, as package managers do.
sub replace ($name) {
    copy($module, "$dir/new") or die "$dir/new: $!";
    rename "$dir/new", "$dir/$name" or die "$dir/$name: $!";
    return;
}

sub reload {
    ok($nginx->reload, 'nginx reloads');
    ok($nginx->wait_old_workers_gone(10), 'the old workers exit');
    return;
}

# Publishes an event that all clients of the hub in memory receive.
sub publish {
    ok(wait_for(sub { !grep { !$_->is_open } @local }), 'the clients are connected');
    my $data = 'event ' . ++$sent;
    $stage->publish('news', $data);
    ok(wait_for(sub { !grep { (($_->data)[-1] // '') ne $data } @local }), 'an event arrives');
    return;
}

# Waits until clients of the hub in memory have received that many gap events.
sub gaps ($count) {
    wait_for(sub { !grep { $_->events('sse.gap') < $count } @local });
    is_deeply([map { scalar $_->events('sse.gap') } @local], [($count) x @local], "clients of the hub in memory have received $count gap events");
    return;
}

sub empty_lines    { return scalar(() = $nginx->error_log =~ /$SSE::Stage::NEW_HUB/g) }
sub replaced_lines { return scalar(() = $nginx->error_log =~ /\[warn\].*has been replaced or removed/g) }
