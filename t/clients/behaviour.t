# What clients of others do at each kind of end, compared with the table of docs/clients.md. All clients are run at
# the same time, each on channels of its own.
#
# SSE_WRITE_CLIENTS=1 writes the table instead (scripts/test clients --write). SSE_CLIENTS and SSE_SITUATIONS, patterns
# of names, select some clients and situations.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/../lib";
use POSIX qw(strftime);
use Test::More;
use SSE::Chromium;
use SSE::ClientStage;
use SSE::ClientTable;
use SSE::Cluster;
use SSE::ExternalClient;
use SSE::Firefox;
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);

plan skip_all => 'scripts/test clients runs this file' if !$SSE::ExternalClient::packages;
plan skip_all => 'nginx is built without TLS or HTTP/2' if !has_module('http_ssl') || !has_module('http_v2');
plan skip_all => 'there is no Chromium, no Firefox, or no openssl'
    if !SSE::Chromium->path || !SSE::Firefox->path || !`openssl version`;

my @clients = @SSE::ClientTable::clients;
@clients = grep { $_->{name} =~ /\A(?:$ENV{SSE_CLIENTS})\z/ } @clients if $ENV{SSE_CLIENTS};
my $stage   = SSE::ClientStage->start;
# Only one tab is visible; the others are not to be slowed down.
my %browser = (
    chromium => SSE::Chromium->new(map { "--disable-$_" } qw(background-timer-throttling renderer-backgrounding backgrounding-occluded-windows)),
    firefox  => SSE::Firefox->new,
);
my %seen;

# A finish: the clients receive the last event. Those that return are answered with 204.
my $finish = sub ($situation) { $stage->publish($_, $situation, 'three', finish => 1) for @clients };

# Ends after which the clients should return. The third event is published when the streams have ended.
my $interruption = sub ($end) {
    return sub ($situation) {
        $end->($situation);
        $stage->publish($_, $situation, 'three') for @clients;
    };
};
my $logged = sub ($situation) { wait_for(sub { !grep { !$stage->requests($_, $situation) } @clients }) };
my $administrator = $interruption->(sub ($situation) {
    $stage->end_streams($_, $situation) for @clients;
    $logged->($situation);
});
my $reload = $interruption->(sub ($situation) {
    $stage->nginx->reload;
    $logged->($situation);
});
my $kill = $interruption->(sub ($) { $stage->nginx->kill_worker($stage->nginx->workers) });

# name: the part of the path. column: of the table. way: see SSE::ClientStage. end: brings the end about. status: with
# which a request is answered after it, or, without `end`, from the beginning. patience: how long to wait for clients
# that do nothing; wait_for() multiplies it.
my @situations = (
    { name => 'finish',       column => 'finish', way => 'direct', end => $finish, status => 204 },
    { name => 'finished',     column => 'finish', way => 'behind', end => $finish, status => 204 },
    { name => 'cut',          column => 'cut',    way => 'direct', end => $administrator },
    { name => 'clean',        column => 'clean',  way => 'direct', end => $administrator },
    { name => 'nothing',      column => '204',    way => 'direct', status => 204 },
    { name => 'gone',         column => '410',    way => 'direct', status => 410 },
    { name => 'reload',       column => 'reload', way => 'direct', end => $reload },
    { name => 'kill',         column => 'killed worker', way => 'direct', end => $kill },
    { name => 'cut-behind',   column => 'cut, behind nginx', way => 'behind', end => $administrator },
    { name => 'cut-behind10', column => 'cut, behind nginx with HTTP/1.0', way => 'behind10', end => $administrator },
);

@situations = grep { $_->{name} =~ /\A(?:$ENV{SSE_SITUATIONS})\z/ } @situations if $ENV{SSE_SITUATIONS};

for my $situation (@situations) {
    my %word = observe(%$situation);
    note("$situation->{name}: ", join ', ', map { "$_ $word{$_}" } sort keys %word);
    for my $client (@clients) {
        my $row = $seen{ $client->{name} } //= {};
        my $word = $word{ $client->{name} };
        # Two situations of one column must not differ.
        is($word, $row->{ $situation->{column} }, "$client->{title}: $situation->{name}") if $row->{ $situation->{column} };
        $row->{ $situation->{column} } //= $word;
    }
}
my $chromium = $browser{chromium}->version =~ s{\A(?:Headless)?Chrome/(\d+).*}{Chromium $1}r;
my $firefox  = $browser{firefox}->version =~ s{/(\d+).*}{ $1}r;
$_->drop for values %browser;
$stage->ends_cleanly;
compare_with_documentation() if !$ENV{SSE_CLIENTS} && !$ENV{SSE_SITUATIONS};
done_testing();

# Runs the clients in one situation and returns what each did, by name.
sub observe (%situation) {
    my $name   = $situation{name};
    my %driver = map {
        $_->{name} => SSE::ExternalClient->start(%$_, in => $browser{ $_->{browser} // 'chromium' }, address => $stage->address($situation{way}, $_, $name))
    } @clients;
    if ($situation{end}) {
        wait_for(sub { !grep { $stage->streams($_, $name) != 1 } @clients }, 8);
        for my $client (@clients) {
            $stage->publish($client, $name, $_) for 'one', 'two';
        }
        my $live = wait_for(sub { !grep { texts($driver{ $_->{name} }) ne 'one two' } @clients }, 5);
        if (!ok($live, "$name: all clients receive events")) {
            my @behind = grep { texts($driver{ $_->{name} }) ne 'one two' } @clients;
            diag($_->{title}, ': ', explain([$driver{ $_->{name} }->reports], [$stage->requests($_, $name)])) for @behind;
            $_->drop for values %driver;
            return;
        }
        $situation{end}->($name);
    }
    wait_for(sub { !grep { !word($driver{ $_->{name} }, $_, %situation) } @clients }, $situation{patience} // 3);
    my %word = map { $_->{name} => word($driver{ $_->{name} }, $_, %situation) // 'stops' } @clients;
    $_->drop for values %driver;

    for my $client (@clients) {
        # What a library makes of the page of an error is not an event.
        last if !$situation{end};
        my $wanted = $name =~ /\Afinish/ || $word{ $client->{name} } eq 'returns' ? 'one two three' : 'one two';
        is(texts($driver{ $client->{name} }), $wanted, "$client->{title}: $name: nothing is lost or repeated")
            or diag(explain([$driver{ $client->{name} }->reports], [$stage->requests($client, $name)]));
        next if $word{ $client->{name} } ne 'returns';
        my $resumed = wait_for(sub { grep { $_->{id} ne '' } $stage->requests($client, $name) });
        $word{ $client->{name} } = 'returns without its id' if !$resumed;
    }
    return %word;
}

sub texts ($driver) { return join ' ', $driver->reported('event') }

# What the client has done after the end, once that is certain.
sub word ($driver, $client, %situation) {
    my ($end) = $driver->reported('end');
    return $end if defined $end;
    return texts($driver) =~ /three/ ? 'returns' : undef if !$situation{status};
    return 3 <= grep({ $_->{status} == $situation{status} } $stage->requests($client, $situation{name})) ? 'retries' : undef;
}

sub compare_with_documentation {
    my $table = SSE::ClientTable::render(\%seen);
    SSE::Cluster::write_file("$SSE::ExternalClient::packages/seen.md", $table);
    if ($ENV{SSE_WRITE_CLIENTS}) { SSE::ClientTable::write($table, circumstances()) }
    my @seen       = split /\n/, $table;
    my @documented = split /\n/, SSE::ClientTable::documented();
    is($seen[$_] // '', $documented[$_] // '', 'docs/clients.md: ' . ($seen[$_] // $documented[$_]) =~ s/\A\| | \|.*//gr)
        for 0 .. (@seen > @documented ? $#seen : $#documented);
    diag("the table as it was seen:\n$table") if $table ne SSE::ClientTable::documented();
    return;
}

# What the table was made with.
sub circumstances {
    my ($curl) = `curl --version` =~ /\Acurl (\S+)/;
    my ($node, $python) = map { `$_ --version` =~ /([\d.]+)/ } SSE::ExternalClient::node(), "$SSE::ExternalClient::packages/python/bin/python3";
    my $nginx = SSE::Nginx::built_with() =~ m{nginx/([\d.]+)} ? $1 : '?';
    return strftime('%F', gmtime) . ", with nginx $nginx, $chromium, $firefox, curl $curl, Node.js $node, and Python $python.";
}
