# $sse_position: a page that is rendered with it, and opens its stream later, misses nothing that is published after
# the variable was evaluated.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use List::Util qw(max);
use Test::More;
use SSE::Cluster;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Publisher;
use SSE::Stage;

my @channels = qw(gold silver copper);
my $stage    = SSE::Stage->new(
    workers => 2,
    http    => <<'EOF_HTTP',
        sse_hub default { zone 64m; history 100000 0; }
        sse_hub Other_1 { }
        log_format positions '$uri $http_x_position';
EOF_HTTP
    server => <<'EOF_CONFIG',
        location = /s       { sse_stream gold silver copper; }
        location = /page    { return 200 $sse_position; }
        location = /other   { return 200 $sse_position_other_1; }
        location = /other/s { sse_stream x hub=Other_1; }
        location = /other/p { sse_publish x hub=Other_1; }
        # An event is published between the first and the last evaluation.
        location = /proxied {
            proxy_pass http://127.0.0.1:%%PORT%%/app;
            proxy_set_header X-Position $sse_position;
            add_header X-Position-Then $sse_position;
        }
        location = /app     { sse_publish gold; access_log %%DIR%%/positions.log positions; }
        location = /moved   { set $before $sse_position; rewrite ^ /moved/again; }
        location = /moved/again { return 200 "$before $sse_position"; }
        location = /included { ssi on; ssi_types *; }
        location = /part    { return 200 $sse_position; }
EOF_CONFIG
    files => { included => '<!--# echo var="sse_position" --> <!--# include virtual="/part" -->' },
);
my $nginx = $stage->cluster;

# Pages are rendered while events are being published. What a publisher sends after the page has
# arrived is published after the evaluation.
my %publisher = map { $_ => SSE::Publisher->new(port => $stage->port, path => "/to/$_") } @channels;
$publisher{$_}->stream(100, sub ($number) { $number }) for @channels;
ok(wait_for(sub { !grep { $publisher{$_}->accepted < 20 } @channels }), 'publishers are running');
my @pages;
for (1 .. 25) {
    my $position = get('/page')->{body};
    # One event may be on its way.
    push @pages, { position => $position, first => { map { $_ => $publisher{$_}->accepted + 2 } @channels } };
}
my %last = map { $_ => scalar $publisher{$_}->accepted } @channels;
ok(wait_for(sub { !grep { $publisher{$_}->accepted <= $last{$_} + 1 } @channels }), 'and still are after the last page');
for my $channel (@channels) {
    $publisher{$channel}->stop;
    $publisher{$channel}->wait_idle;
}
my @all = map { my $channel = $_; map { [$channel, $_->{id}, $_->{data}] } $publisher{$channel}->accepted } @channels;
is(scalar(grep { $_->{position} !~ /\A\d+-\d+-\d+\z/ } @pages), 0, 'the position of every page is an id');
cmp_ok(scalar(keys %{ { map { $_->{position} => 1 } @pages } }), '>', 1, 'they differ');
my (@missing, @gaps, @many);
my %channel_of = map { $_->[1] => $_ } @all;
for my $page (@pages) {
    my $client = $stage->stream("/s?last_event_id=$page->{position}");
    $stage->seen($client, 'gold');
    my %seen;
    for my $event (grep { $channel_of{ $_->{id} } } @{ $client->{events} }) {
        my ($channel, undef, $data) = @{ $channel_of{ $event->{id} } };
        $seen{$channel}{$data}++;
    }
    for my $channel (@channels) {
        push @missing, "$channel $_ after $page->{position}"
            for grep { !$seen{$channel}{$_} } $page->{first}{$channel} .. $publisher{$channel}->accepted;
        push @many, grep { $_ > 1 } values %{ $seen{$channel} // {} };
    }
    push @gaps, $client->events('sse.gap');
    $client->close;
}
is_deeply(\@missing, [], 'every stream has all events that were published after its page');
is(scalar @gaps, 0, 'without a gap event');
is(scalar @many, 0, 'and no event twice');

# Once a request, wherever it is used.
for (1 .. 3) {
    my $answer = request(port => $stage->port, path => '/proxied', body => 'meanwhile');
    is($answer->{status}, 201, 'an event is published while the request is processed');
    my ($passed) = SSE::Cluster::slurp($nginx->dir . '/positions.log') =~ /(\S+)\n\z/;
    is($answer->{header}{'x-position-then'}[0], $passed, 'and the position stays the one that the application received');
    isnt($answer->{json}{id}, $passed, '... which was before that event');
    my @seen = $stage->replayed("/s?last_event_id=$passed", 'gold');
    is_deeply(\@seen, ['meanwhile'], '... so that its stream has the event');
}
like(get('/moved')->{body}, qr/\A(\S+) \1\z/, 'it stays the same after an internal redirect');
like(get('/included')->{body}, qr/\A(\S+) \1\z/, 'and in subrequests');

# A hub by its name.
my $other = get('/other')->{body};
like($other, qr/\A\d+-\d+-\d+\z/, 'another hub has its own position');
request(port => $stage->port, path => '/other/p', body => 'elsewhere');
my $client = $stage->stream("/other/s?last_event_id=$other");
ok($client->wait_data('elsewhere'), 'which its streams resume from');
$client->close;

# A reload, and a worker that was killed.
my $before = get('/page')->{body};
$stage->publish('gold', 'before the reload');
$nginx->reload;
$stage->publish('gold', 'after the reload');
$nginx->kill_worker(($nginx->workers)[0]);
$stage->publish('gold', 'after the kill');
is_deeply([$stage->replayed("/s?last_event_id=$before", 'gold')],
    ['before the reload', 'after the reload', 'after the kill'], 'a position is valid after a reload and a kill');

$stage->ends_cleanly;

# Configurations.
for my $case (
    ['an unknown hub', 'sse_hub news { } sse_hub chat { }', 'return 200 $sse_position_sport;', qr/unknown hub "sport" in variable "sse_position_sport"/],
    ['an unknown hub, without any', '', 'return 200 $sse_position_sport;', qr/unknown hub "sport" in variable "sse_position_sport"/],
    ['several hubs', 'sse_hub news { } sse_hub chat { }', 'add_header X-P $sse_position;', qr/variable "sse_position" must name one of the hubs, as in "\$sse_position_NAME"/],
    ['a redefined variable', 'sse_hub news { }', 'set $sse_position_news 1;', qr/the duplicate "sse_position_news" variable/],
    ['hubs whose names differ in case', 'sse_hub news { } sse_hub News { }', 'return 200 $sse_position_news;', qr/variable "sse_position_news" may mean several hubs/],
) {
    my ($name, $http, $location, $message) = @$case;
    my ($status, $said) = SSE::Cluster->new(http => $http, server => "location / { $location }")->check_config;
    isnt($status, 0, "$name: nginx refuses the configuration");
    like($said, $message, '... with the reason');
}

# Without a location of the module: empty without a hub, and a position with one.
for my $case (['', qr/\A<>\z/], ['sse_hub news { }', qr/\A<\d+-\d+-\d+>\z/]) {
    my ($http, $body) = @$case;
    my $alone = SSE::Cluster->start(http => $http, server => 'location / { return 200 "<$sse_position>"; }');
    like(request(port => $alone->port, path => '/')->{body}, $body, "with '$http', and no location of the module");
    $alone->ends_cleanly;
}
done_testing();

sub get ($path) { return request(port => $stage->port, path => $path) }
