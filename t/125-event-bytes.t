# Published bytes arrive unchanged except for line endings, whether a body is in memory, in a file, or
# chunked.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Client;
use SSE::HTTP qw(request);
use SSE::Stage;

my $stage = SSE::Stage->new(
    server => <<'EOF_CONFIG',
        sse_open_event off;
        location = /s     { sse_stream news; }
        location = /small { sse_publish news; client_body_buffer_size 1k; }
        location = /file  { sse_publish news; client_body_in_file_only clean; }
        location = /one   { sse_publish news; client_body_in_single_buffer on; }
EOF_CONFIG
);
my $client = $stage->stream('/s', keep_wire => 1);

# A published body, and the expected lines of the event.
my @bodies = (
    ["a\n", ['a', ''], 'a line break at the end adds an empty line'],
    ["\n", ['', ''], 'a line break alone makes two empty lines'],
    ["\r\n\r\n", ['', '', ''], 'CRLF alone makes two empty lines'],
    ["\r\r\n\n", ['', '', '', ''], 'CR, CRLF, and LF in a row end three lines'],
    ["   id: 7\revent: error\n\tretry: 0\r\n: no comment", ['   id: 7', 'event: error', "\tretry: 0", ': no comment'],
        'text that looks like a field is data, with its leading spaces'],
    ["\xef\xbb\xbfbom", ["\xef\xbb\xbfbom"], 'a byte order mark is kept'],
    [' ', [' '], 'a single space is kept'],
    ["tail ", ['tail '], 'a trailing space is kept'],
    ["\0\x01\x7f", ["\0\x01\x7f"], 'other control characters are kept'],
    ["0\r\n\r\n", ['0', '', ''], 'text that looks like the last chunk is data'],
    ['0', ['0'], '"0" is data'],
);
for my $case (@bodies) {
    my ($body, $lines, $name) = @$case;
    my $wanted = join '', map { "data: $_\n" } @$lines;
    for my $path ('/to/news', '/small', '/file') {
        my $id = publish($path, $body);
        like(block($id), qr/\A\Q$wanted\Eid: \Q$id\E\n\n\z/, "$name ($path)");
    }
}

# Sizes around those of nginx's buffers, in one piece and chunked.
for my $size (1, 1023, 1024, 1025, 4096, 16384, 16385, 65536, 200_000) {
    my $body = substr join('', map { "line $_ " . 'x' x 500 . "\n" } 1 .. $size / 500 + 1), 0, $size;
    for my $path ('/to/news', '/small', '/file', '/one') {
        my $id = publish($path, $body);
        is(data_of($id), $body, "$size bytes arrive complete through $path");
    }
    my $id = in_pieces($body);
    is(data_of($id), $body, "$size bytes arrive complete in chunks");
}

# max_event_size is a limit on the encoded event.
is(status("\n" x 100_000), 413, 'an event that exceeds the limit only when encoded is rejected');
is(status("\n" x 30_000),  201, 'an event that fits when encoded is accepted');

$stage->ends_cleanly;
done_testing();

sub publish ($path, $body) {
    my $answer = request(port => $stage->port, path => $path, body => $body);
    return $answer && $answer->{json} ? $answer->{json}{id} // 'refused' : 'no answer';
}

sub status ($body) {
    my $answer = request(port => $stage->port, path => '/to/news', body => $body);
    return $answer ? $answer->{status} : 'no answer';
}

# A chunked body with chunks of many sizes.
sub in_pieces ($body) {
    my ($chunks, $size) = ('', 1);
    while ($body ne '') {
        my $piece = substr $body, 0, $size, '';
        $chunks .= sprintf "%x\r\n%s\r\n", length $piece, $piece;
        $size = $size * 3 % 10_007;
    }
    my $answer;
    my $connection = SSE::HTTP->new($stage->port, sub ($got) { $answer = $got; return });
    $connection->send(method => 'POST', path => '/small', headers => ['Transfer-Encoding' => 'chunked']);
    $connection->{sending} .= "${chunks}0\r\n\r\n";
    SSE::Loop::wait_for(sub { $answer });
    $connection->drop;
    return $answer->{json}{id} // 'refused';
}

# The bytes of the event with this id, and its data.
sub block ($id) {
    my $body = '';
    SSE::Loop::wait_for(sub { $client->{wire} =~ /id: \Q$id\E\n\n\r\n/ });
    my (undef, $chunks) = split /\r\n\r\n/, $client->{wire}, 2;
    while ($chunks =~ /\G([0-9a-f]+)\r\n/gc) {
        my $size = hex $1;
        $body .= substr $chunks, pos($chunks), $size;
        pos($chunks) += $size + 2;
    }
    return $body =~ /.*(?:\n\n|\n:\n|\A)(.*?id: \Q$id\E\n\n)/s ? $1 : '';
}

sub data_of ($id) {
    SSE::Loop::wait_for(sub { $client->{last_event_id} eq $id });
    return $client->{events}[-1]{data};
}
