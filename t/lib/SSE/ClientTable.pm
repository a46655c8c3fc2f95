package SSE::ClientTable;

# The table of clients: the clients of others that t/clients runs, and what docs/clients.md says of each.

use v5.36;
use File::Basename qw(dirname);
use File::Spec;
use JSON::PP;
use SSE::Cluster;

my $root = File::Spec->rel2abs(dirname(__FILE__) . '/../../..');
my $page = "$root/docs/clients.md";

# name     part of the names of its channels
# title    what the table calls it
# package  its npm or PyPI package; without one, it is a program of the system
# driver   the file in t/clients/drivers, and `arguments` of a program
# browser  for a page: chromium, unless it is firefox
# over     how it connects: plain, tls, or http2
# wants    the form of events that it reads, of SSE::ClientEvents; text by default
our @clients = (
    { name => 'chromium', title => 'EventSource of Chromium, HTTP/1.1', driver => 'eventsource.html' },
    { name => 'chromium-tls', title => 'EventSource of Chromium, TLS', driver => 'eventsource.html', over => 'tls' },
    { name => 'chromium-http2', title => 'EventSource of Chromium, HTTP/2', driver => 'eventsource.html', over => 'http2' },
    { name => 'firefox', title => 'EventSource of Firefox, HTTP/1.1', driver => 'eventsource.html', browser => 'firefox' },
    { name => 'firefox-tls', title => 'EventSource of Firefox, TLS', driver => 'eventsource.html', browser => 'firefox', over => 'tls' },
    { name => 'firefox-http2', title => 'EventSource of Firefox, HTTP/2', driver => 'eventsource.html', browser => 'firefox', over => 'http2' },
    { name => 'turbo', title => 'Turbo', package => '@hotwired/turbo', driver => 'turbo.html', wants => 'turbo' },
    { name => 'eventsource-4', title => 'eventsource (npm)', package => 'eventsource-4', driver => 'eventsource-4.mjs' },
    { name => 'eventsource-5', title => 'eventsource (npm)', package => 'eventsource-5', driver => 'eventsource-5.mjs' },
    { name => 'htmx-2', title => 'htmx 2, ext-sse', package => 'htmx-ext-sse', driver => 'htmx-2.html', wants => 'html' },
    { name => 'htmx-4', title => 'htmx 4, hx-sse', package => 'htmx-4', driver => 'htmx-4.html', wants => 'html' },
    { name => 'fetch-event-source', title => 'fetch-event-source', package => '@microsoft/fetch-event-source', driver => 'fetch-event-source.html' },
    { name => 'datastar', title => 'Datastar', package => '@starfederation/datastar', driver => 'datastar.html', wants => 'datastar' },
    { name => 'ai-sdk', title => 'AI SDK', package => 'ai', driver => 'ai-sdk.mjs', wants => 'message_chunk' },
    { name => 'openai-node', title => 'openai (Node.js)', package => 'npm:openai', driver => 'openai-node.mjs', wants => 'completion_chunk' },
    { name => 'openai-python', title => 'openai (Python)', package => 'pypi:openai', driver => 'openai-python.py', wants => 'completion_chunk' },
    { name => 'httpx-sse', title => 'httpx-sse', package => 'httpx-sse', driver => 'httpx-sse.py' },
    { name => 'sseclient-py', title => 'sseclient-py', package => 'sseclient-py', driver => 'sseclient-py.py' },
    { name => 'requests', title => 'requests', package => 'requests', driver => 'requests-lines.py' },
    { name => 'aiohttp-sse-client', title => 'aiohttp-sse-client', package => 'aiohttp-sse-client', driver => 'aiohttp-sse-client.py' },
    { name => 'curl', title => 'curl, HTTP/1.1', driver => 'curl.py' },
    { name => 'curl-http2', title => 'curl, HTTP/2', driver => 'curl.py', arguments => ['--http2'], over => 'http2' },
);

# The columns after the client's title and version.
our @columns = ('finish', 'cut', 'clean', '204', '410', 'reload', 'killed worker', 'cut, behind nginx', 'cut, behind nginx with HTTP/1.0');

# The installed version of a client's package, from the list of the package manager; nothing for a program of the
# system.
sub version ($client) {
    my $name = $client->{package} // return '';
    my $from = $name =~ s/\A(npm|pypi):// ? $1 : '';
    state $locked = JSON::PP->new->utf8->decode(SSE::Cluster::slurp("$root/t/clients/package-lock.json"))->{packages};
    return $locked->{"node_modules/$name"}{version} if $from ne 'pypi' && $locked->{"node_modules/$name"};
    return SSE::Cluster::slurp("$root/t/clients/requirements.txt") =~ /^\Q$name\E==(\S+)$/m ? $1 : die "no version of $name";
}

# The rows of the table as text: $seen{NAME}{COLUMN} is a word.
sub render ($seen) {
    my @rows = (['client', 'version', @columns], [('---') x (@columns + 2)]);
    push @rows, [$_->{title}, version($_), map { my $column = $_; $column } @{ $seen->{ $_->{name} } }{@columns}] for @clients;
    return join '', map { '| ' . join(' | ', map { $_ eq '' ? '—' : $_ } @$_) . " |\n" } @rows;
}

# The table in docs/clients.md: the lines from its head to its last row.
sub documented {
    return SSE::Cluster::slurp($page) =~ /^(\| client \| version \|.*\n(?:\|.*\n)+)/m ? $1 : '';
}

# Replaces the table, and the line that says with which programs it was made.
sub write ($table, $circumstances) {
    my $text = SSE::Cluster::slurp($page);
    $text =~ s/^\| client \| version \|.*\n(?:\|.*\n)+/$table/m or die "$page has no table of clients";
    $text =~ s/^Last run: .*\n/Last run: $circumstances\n/m or die "$page does not say when the table was made";
    SSE::Cluster::write_file($page, $text);
    return;
}

1;
