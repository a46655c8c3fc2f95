package SSE::DeclarativeTests;

# Declarative tests. After __DATA__ a file has blocks; each runs in its own nginx:
#
#     === TEST 1: its title
#     --- config              the contents of the server block; http_config: of the http block
#     --- request             METHOD PATH [VERSION], and the body from the second line on
#     --- error_code: 201     the default is 200
#     --- response_body_like eval
#     qr/"id"/
#
# With `eval`, the text of the section is Perl code, in package main. For several requests, request,
# more_headers, error_code, response_body, and response_body_like are lists. Each request has its own
# connection, except in pipelined_requests and raw_request. With `abort`, the response does not end, and is
# considered complete when nothing has arrived for a while. With `refused`, nginx must not start, and must log
# that message.

use v5.36;
use Exporter qw(import);
use IO::Select;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(time);
use SSE::Cluster;
use SSE::HTTP;

our @EXPORT = qw(add_block_preprocessor run_blocks);

# A response that does not end is considered complete when the body is as expected and nothing has arrived
# for the shorter time, or after the longer time, in seconds.
my ($QUIET, $PATIENCE) = (0.5, 10);

my @preprocessors;

# Called with each block before it runs.
sub add_block_preprocessor ($code) {
    push @preprocessors, $code;
    return;
}

# Runs all blocks; options are those of SSE::Cluster.
sub run_blocks (%options) {
    for my $block (read_blocks()) {
        $_->($block) for @preprocessors;
        subtest $block->{title} => sub { defined $block->refused ? refuses($block, %options) : answers($block, %options) };
    }
    done_testing();
    return;
}

sub read_blocks {
    my $text = do { local $/ = undef; <main::DATA> };
    my @blocks;
    for my $part (split /^=== /m, $text) {
        my ($title, @sections) = split /^--- /m, $part;
        next if !@sections;
        my %block = (title => $title =~ s/\s+\z//r);
        for my $section (@sections) {
            my ($name, $filter, $value) = section($section);
            $value = code($value) if $filter;
            die "$block{title}: $name stands twice" if exists $block{$name};
            $block{$name} = $value;
        }
        push @blocks, bless \%block, __PACKAGE__;
    }
    die 'no blocks' if !@blocks;
    return @blocks;
}

# The name of a section, whether it is Perl, and its value: after the colon, or the lines below.
sub section ($text) {
    my ($name, $filter, $colon, $inline, $lines) = $text =~ /\A(\w+)( eval)?(?:(:) *(.*))?[ \t]*\n(.*)\z/s
        or die "no section: $text";
    ($inline, $lines) = $text =~ /\A[^\n:]*: *([^\n]*)\n(.*)\z/s if $colon;
    return ($name, $filter, $colon ? $inline : $lines =~ s/\s*\z/\n/r);
}

sub code ($text) {
    my $value = eval "package main; $text";
    die $@ if $@;
    return $value;
}

sub set_value ($self, $name, $value) {
    $self->{$name} = $value;
    return;
}

our $AUTOLOAD;

# The value of a section of the block.
sub AUTOLOAD ($self) { return $self->{ $AUTOLOAD =~ s/.*:://r } }
sub DESTROY  { }

# Heartbeats are off, because a response that does not end is read until it is silent for a while.
sub cluster ($block, %options) {
    my $http = $block->http_config // '';
    $http = "sse_heartbeat off;\n$http" if $http !~ /sse_heartbeat/;
    return SSE::Cluster->new(workers => 2, %options, http => $http, server => $block->config // '');
}

sub refuses ($block, %options) {
    my $wanted = $block->refused;
    chomp $wanted;
    my $where = defined $block->nowhere ? qr// : qr/ in \S+nginx\.conf:\d+/;
    my ($status, $said) = cluster($block, %options)->check_config;
    isnt($status, 0, 'nginx rejects the configuration');
    like($said, qr/\[emerg\] .*$wanted.*$where/, 'the message is as expected');
    return;
}

sub answers ($block, %options) {
    my $cluster  = cluster($block, %options)->start;
    my @requests = requests($block);
    my @answers =
        defined $block->pipelined_requests
        ? pipelined($cluster->port, @requests)
        : map { exchange($cluster->port, $requests[$_], ends($block, $_)) } 0 .. $#requests;
    is(scalar @answers, defined $block->pipelined_requests ? @{ $block->pipelined_requests } : @requests, 'answers');
    check($block, $_, $answers[$_]) for 0 .. $#answers;
    my $log = $cluster->error_log;
    unlike($log, $_, 'the error log') for @{ $block->no_error_log // [] };
    $cluster->ends_cleanly;
    return;
}

# The bytes of each request.
sub requests ($block) {
    return $block->raw_request if defined $block->raw_request;
    my $pipelined = $block->pipelined_requests;
    my @requests  = list($pipelined // $block->request);
    my @headers   = ref $block->more_headers ? @{ $block->more_headers } : ($block->more_headers // '') x @requests;
    my @bytes     = map { bytes($requests[$_], $headers[$_], $pipelined && $_ < $#requests) } 0 .. $#requests;
    return $pipelined ? join '', @bytes : @bytes;
}

sub bytes ($request, $headers, $kept) {
    my ($first, $body) = $request =~ /\A([^\n]*\S)[ \r]*(?:\n(.*))?\z/s or die "no request: $request";
    my ($method, $path, $version) = split ' ', $first;
    $version //= 'HTTP/1.1';
    # Pipelined requests may have headers before the body.
    return "$method $path $version\r\n$body" if ($body // '') =~ /\A[\w-]+: .*\r\n\r\n/;
    my @lines = ("$method $path $version", 'Host: localhost', 'Connection: ' . ($kept ? 'keep-alive' : 'close'));
    push @lines, grep { $_ ne '' } split /\r?\n/, $headers;
    push @lines, 'Content-Length: ' . length $body if length($body // '') && $headers !~ /^(?:Content-Length|Transfer-Encoding):/mi;
    return join("\r\n", @lines) . "\r\n\r\n" . ($body // '');
}

# Whether a response that does not end is complete, according to the expected body with this number.
sub ends ($block, $number) {
    return undef if !defined $block->abort;
    return sub ($bytes) {
        my $answer = answer($block, $number, $bytes);
        my ($exact, $like) = map { nth($_, $number) } $block->response_body, $block->response_body_like;
        return $answer && (!defined $exact || $answer->{body} eq $exact) && (!defined $like || $answer->{body} =~ $like);
    };
}

# All bytes of a new connection until nginx closes it, or until $ends, if given, returns true.
sub exchange ($port, $request, $ends) {
    my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Proto => 'tcp') or die "connect: $!";
    local $SIG{PIPE} = 'IGNORE';
    print {$socket} $request;
    $socket->flush;
    my ($select, $bytes, $begun, $last) = (IO::Select->new($socket), '', time, time);
    while (time - $begun < 3 * $PATIENCE) {
        if (!$select->can_read(0.1)) {
            last if $ends && time - $last > $QUIET && ($ends->($bytes) || time - $begun > $PATIENCE);
            next;
        }
        sysread($socket, $bytes, 65536, length $bytes) or last;
        $last = time;
    }
    return $bytes;
}

# The responses to pipelined requests.
sub pipelined ($port, $requests) {
    my $bytes = exchange($port, $requests, undef);
    my @answers;
    while (my $got = SSE::HTTP::answer($bytes, 0, 0)) {
        push @answers, substr $bytes, 0, $got->{length}, '';
    }
    return @answers;
}

# status, head, header and body; with http09, all bytes are the body.
sub answer ($block, $number, $bytes) {
    return { status => 200, head => '', header => {}, body => $bytes } if defined $block->http09;
    my $is_head = (nth($block->request, $number) // '') =~ /\AHEAD /;
    my $got     = SSE::HTTP::answer($bytes, 1, $is_head) or return;
    return $got->{answer};
}

sub check ($block, $number, $bytes) {
    my $answer = answer($block, $number, $bytes) or return fail("no answer: $bytes");
    my ($status, $exact, $like) =
        map { nth($_, $number) } $block->error_code // 200, $block->response_body, $block->response_body_like;
    is($answer->{status}, $status =~ s/\s//gr, 'the status') if defined $status;
    is($answer->{body},   $exact, 'the body') if defined $exact;
    like($answer->{body}, $like, 'the body') if defined $like;
    like($answer->{head} . "\r\n", $block->raw_response_headers_like, 'the head') if defined $block->raw_response_headers_like;
    check_header($answer, $_, 0) for split /\n/, $block->response_headers // '';
    check_header($answer, $_, 1) for split /\n/, $block->response_headers_like // '';
    return;
}

# "Name: value", or "! Name" for a header that must be absent.
sub check_header ($answer, $line, $is_pattern) {
    my ($absent, $name, $wanted) = $line =~ /\A(! )?([\w-]+)(?:: *(.*))?\z/ or die "no header: $line";
    my $value = $answer->{header}{ lc $name };
    my $got   = $value && @$value ? join(', ', @$value) : undef;
    return is($got, undef, "no $name") if $absent;
    return $is_pattern ? like($got, qr/\A$wanted\z/, $name) : is($got, $wanted, $name);
}

# The value for the request with this number: one for all requests, or a list.
sub nth ($value, $number) { return ref $value eq 'ARRAY' ? $value->[$number] : $value }

sub list ($value) { return ref $value eq 'ARRAY' ? @$value : defined $value ? $value : () }

1;
