# The module of an earlier release and this one: the earlier configurations, upgrades and a downgrade of a running
# nginx, the data that the earlier one left in Redis, and both beside each other on one Redis.
# scripts/test upgrades runs this file.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/../lib";
use File::Copy qw(copy);
use File::Temp;
use Test::More;
use SSE::EventIds qw(by_id);
use SSE::Fleet;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Nginx;
use SSE::Redis;
use SSE::RedisStage;
use SSE::Stage;

my $source  = $ENV{SSE_EARLIER_SOURCE} // plan(skip_all => 'scripts/test upgrades runs this file');
my $earlier = $ENV{SSE_EARLIER_MODULE};
my $this    = SSE::Nginx::module();
my %script  = (earlier => "$source/redis/publish.lua", this => "$FindBin::Bin/../../lua/publish.lua");
$_ = SSE::Cluster::slurp($_) for values %script;

accepts_earlier_configurations();
follows_binary_upgrades();
serve_beside_each_other('pubsub');
serve_beside_each_other('stream');
continues_earlier_data('pubsub');
continues_earlier_data('stream');
done_testing();

# Runs code in which this module is the one that nginx loads.
sub with_module ($module, $code) {
    local $ENV{SSE_MODULE} = $module;
    return $code->();
}

# All configurations of the earlier release, and one with every directive as it was documented.
sub accepts_earlier_configurations {
    my @files = glob "$source/nginx-conf/*.conf";
    cmp_ok(scalar @files, '>=', 9, 'the earlier release has configurations');
    for my $file (@files) {
        my $dir  = File::Temp->newdir;
        my $text = SSE::Cluster::slurp($file);
        $text =~ s/^load_module \S+;/load_module $this; pid $dir\/pid;/m;
        $text =~ s/127\.0\.0\.1:(?:8080|8081)/'127.0.0.1:' . SSE::Nginx::free_port()/ge;
        SSE::Cluster::write_file("$dir/nginx.conf", $text);
        mkdir "$dir/$_" for qw(logs temp conf);
        my $said = `'@{[SSE::Nginx::binary()]}' -t -e stderr -p '$dir' -c nginx.conf 2>&1`;
        ok($? == 0 && $said !~ /\[(?:warn|emerg|error)\]/, 'this module accepts ' . $file =~ s{.*/}{}r) or diag($said);
    }
    my %documented = (
        http   => 'sse_hub default { zone 8m; history 100 10m; max_event_size 64k; presence on; } sse_hub other { history off; presence off; }'
            . ' sse_replay off; sse_heartbeat 15s; sse_retry 3s jitter=1s; sse_drain 1s; sse_gap_event sse.gap; sse_slow_client skip; sse_max_age off;',
        server => 'location = /s { sse_stream a $arg_b hub=default split=,; sse_replay all; sse_last_event_id $http_last_event_id;'
            . ' sse_name_events by_type; sse_max_subscribers 10; sse_cors https://a.example; sse_open_event off; sse_lean on; }'
            . ' location = /p { sse_stream * pattern hub=other; } location = /publish { sse_publish $arg_c event=$arg_e hub=default; }'
            . ' location = /status { sse_status; } location = /admin { sse_admin hub=default; }',
    );
    for my $module ($earlier, $this) {
        my ($status, $said) = with_module($module, sub { SSE::Cluster->new(%documented)->check_config });
        is($status, 0, 'a configuration with the directives of the earlier release is accepted by '
            . ($module eq $this ? 'this module' : 'the earlier one')) or diag($said);
    }
    return;
}

# The module's file is replaced under load. A reload continues with the loaded module; USR2 and QUIT load the new file:
# an upgrade, a downgrade, and an upgrade again.
sub follows_binary_upgrades {
    my $dir = File::Temp->newdir;
    chmod 0755, $dir;
    my $file = "$dir/ngx_http_sse_module.so";
    install($earlier, $file);
    my $redis = SSE::Redis->start;
    my $stage = with_module($file, sub {
        SSE::RedisStage->new(redis => $redis->url, daemon => 'on', hub => 'history 20000;',
            http => 'sse_drain 1s; sse_hub alone { history 100; }',
            server => 'location = /alone { sse_stream news hub=alone; } location = /to-alone { sse_publish news hub=alone; }');
    });
    my $nginx = $stage->cluster;
    my $fleet = fleet($nginx);
    my $local = $stage->stream('/alone', reconnect => 1);
    my $gaps  = 0;
    my @sent;
    my $publish_alone = sub {
        ok(wait_for(sub { $local->is_open }), 'the client of the hub in memory is connected');
        push @sent, 'event ' . @sent;
        is(request(port => $nginx->port, path => '/to-alone', body => $sent[-1])->{status}, 201, 'an event is published in memory');
        ok($local->wait_data($sent[-1]), 'it arrives');
    };
    $publish_alone->();
    for my $step (['this module', $this], ['the earlier module', $earlier], ['this module again', $this]) {
        my ($name, $module) = @$step;
        install($module, $file);
        ok($nginx->reload && $nginx->wait_old_workers_gone(20), 'a reload continues with the loaded module');
        publish_some($fleet);
        $publish_alone->();
        is(scalar $local->events('sse.gap'), $gaps, 'without a gap event');
        my ($old, $new) = ($nginx->pid, $nginx->start_new_master);
        ok($new, "USR2 starts a second master, with $name");
        publish_some($fleet);
        kill 'QUIT', $old;
        ok(wait_for(sub { $nginx->is_gone }, 20), 'the old master exits');
        $nginx->adopt($new);
        ok(wait_for(sub { $local->events('sse.gap') > $gaps }), 'the hub in memory starts empty: its client receives a gap event');
        $gaps++;
        publish_some($fleet);
        $publish_alone->();
    }
    is_deeply([$local->data], \@sent, 'events of the hub in memory arrived once');
    $fleet->verify;
    is($stage->subscriptions($redis), 1, 'nginx has one subscribing connection');
    $stage->ends_cleanly;
    return;
}

# Two nginx instances of one hub, one with each module. Clients move between them; both, and the scripts of both,
# publish. With redis_source stream there is only one channel: the ids of several are independent of each other, so that
# a client that moves may receive the last two seconds again.
sub serve_beside_each_other ($kind) {
    my $redis = SSE::Redis->start(notify => 'Kt');
    my %options = (redis => $redis->url, hub => "history 20000; redis_source $kind;", http => 'sse_drain 1s;');
    my @stages  = map { my $module = $_; with_module($module, sub { SSE::RedisStage->new(%options) }) } $earlier, $this;
    my @groups  = ({ path => '/on/a', count => 12, channels => ['a'] }, { path => '/on/a,b', count => 12 });
    my $fleet   = SSE::Fleet->new(clusters => [map { $_->cluster } @stages], quiet => 0, movers => 2, rate => 150,
        $kind eq 'stream' ? (targets => ['/to/a'], groups => [$groups[0]]) : (targets => ['/to/a', '/to/b'], groups => \@groups));
    ok($fleet->wait_connected, "redis_source $kind, both modules beside each other: clients are connected");
    my @outside = $kind eq 'stream' ? () : map { $_->stream('/on/outside', reconnect => 1) } @stages;
    $fleet->start_publishing;
    my @sent;
    for my $round (1 .. 5) {
        for my $name (@outside ? sort keys %script : ()) {
            push @sent, "$name $round";
            my $id = $redis->must('EVAL', $script{$name}, 1, 'sse:{sse}:s:outside', $sent[-1]);
            like($id, qr/\A\d+-\d+\z/, "an event is added by the script of $name") if $round == 1;
        }
        publish_some($fleet);
        $_->{client}->move($fleet->port(int rand 2)) for @{ $fleet->{groups}[0]{members} };
        $redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub') if $round == 2;
        ok($stages[$round % 2]->cluster->reload, 'one of them reloads');
    }
    $fleet->verify;
    ok(wait_for(sub { !grep { $_->data < @sent } @outside }), 'events of both scripts arrive');
    is(scalar(grep { "@{[$_->data]}" ne "@sent" } @outside), 0, 'once and in order, on both');
    my $key = ['Idempotency-Key' => 'both'];
    my @once = map { request(port => $_->port, path => '/to/a', body => 'once', headers => $key)->{json}{id} } @stages;
    is($once[0], $once[1], 'an idempotency key that one has used is recognized by the other');
    $_->ends_cleanly for @stages;
    return;
}

# The earlier module leaves events, keys, and a clock in Redis. Then only this module runs.
sub continues_earlier_data ($kind) {
    my $redis   = SSE::Redis->start(notify => 'Kt', appendonly => 1);
    my %options = (redis => $redis->url, hub => "history 100 1h; redis_source $kind;");
    my $key     = ['Idempotency-Key' => 'from before'];
    my $before  = with_module($earlier, sub { SSE::RedisStage->new(%options) });
    my @ids     = $before->publish('news', map { "event $_" } 1 .. 20);
    my $once    = $before->post('news', 'once', headers => $key);
    is($once->{status}, 201, "redis_source $kind, data of the earlier module: it has published");
    push @ids, $once->{json}{id};
    my $client = $before->stream('/on/news', last_event_id => $ids[9]);
    ok($client->wait_data('once'), 'a client resumes there');
    my $last = $client->{last_event_id};
    my $deleted = request(port => $before->port, path => '/to/other', body => 'another channel');
    is($deleted->{status}, 201, 'another channel has an event');
    $before->ends_cleanly;
    $redis->kill;
    $redis->start;

    my $after = with_module($this, sub { SSE::RedisStage->new(%options) });
    my ($next) = $after->publish('news', 'next');
    cmp_ok(by_id($last, $next), '<', 0, 'this module continues with higher ids');
    my $back = $after->stream('/on/news', last_event_id => $last);
    is_deeply([$after->got($back, 'next')], ['next'], 'the client continues right after its last event');
    my $middle = $after->stream('/on/news', last_event_id => $ids[4]);
    is_deeply([$after->got($middle, 'next')], [(map { "event $_" } 6 .. 20), 'once', 'next'], 'an older id is found');
    my $all = $after->stream('/all/news');
    is_deeply([$after->got($all, 'next')], [(map { "event $_" } 1 .. 20), 'once', 'next'], 'the history has all events of the earlier module');
    my $repeated = $after->post('news', 'once', headers => $key);
    is($repeated->{json}{id}, $once->{json}{id}, 'an idempotency key of the earlier module is recognized');
    my $other = $after->stream('/all/other');
    ok($other->wait_data('another channel'), 'other channels have their events, too');
    $after->ends_cleanly;

    # And back, as after an upgrade that is taken back.
    my $again = with_module($earlier, sub { SSE::RedisStage->new(%options) });
    my ($later) = $again->publish('news', 'later');
    cmp_ok(by_id($next, $later), '<', 0, 'the earlier module continues after this one');
    my $returned = $again->stream('/on/news', last_event_id => $ids[-1]);
    is_deeply([$again->got($returned, 'later')], ['next', 'later'], 'its clients receive what this one has published');
    $again->ends_cleanly;
    return;
}

sub install ($from, $to) {
    copy($from, "$to.new") or die "$to.new: $!";
    rename "$to.new", $to or die "$to: $!";
    return;
}

sub fleet ($nginx) {
    my $fleet = SSE::Fleet->new(cluster => $nginx, quiet => 0, targets => ['/to/a', '/to/b'], groups => [
        { path => '/on/a',   count => 15, channels => ['a'] },
        { path => '/on/a,b', count => 15 },
    ]);
    ok($fleet->wait_connected, 'clients are connected');
    $fleet->start_publishing;
    publish_some($fleet);
    return $fleet;
}

# Waits until many more events have been accepted.
sub publish_some ($fleet) {
    my $target = $fleet->count + 50;
    ok(wait_for(sub { $fleet->count >= $target }, 20), 'events are accepted');
    return;
}
