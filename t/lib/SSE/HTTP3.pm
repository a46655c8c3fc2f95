package SSE::HTTP3;

# HTTP/3 connections and requests, made by a Python process with aioquic (http3-client.py).

use v5.36;
use Errno qw(EAGAIN);
use File::Basename qw(dirname);
use File::Spec;
use IO::Handle;
use IPC::Open2 qw(open2);
use JSON::PP qw(decode_json encode_json);
use MIME::Base64 qw(decode_base64 encode_base64);
use SSE::Loop qw(watch unwatch wait_for);
use SSE::Parser;

my $here = File::Spec->rel2abs(dirname(__FILE__));

# A Python that has aioquic: the one that scripts/test has installed, or the system's; undef if there is none.
sub python {
    state $found = (grep { defined && system("'$_' -c 'import aioquic.h3.connection' 2>/dev/null") == 0 }
        $ENV{SSE_HTTP3_PYTHON}, "$here/../../../target/aioquic/bin/python3", 'python3')[0];
    return $found;
}

# Starts the process; `connect` opens a connection.
sub new ($class) {
    my $pid = open2(my $output, my $input, python(), "$here/../http3-client.py");
    $output->blocking(0);
    $input->autoflush(1);
    my $self = bless { socket => $output, input => $input, fd => CORE::fileno($output), pid => $pid, buffer => '',
        connections => [], requests => [] }, $class;
    watch($self);
    return $self;
}

# Opens a connection. Options: window (the initial flow-control window of the connection and of each stream, in
# bytes), idle_timeout (seconds).
sub connect ($self, $port, %options) {
    my $connection = bless { number => scalar @{ $self->{connections} }, process => $self }, 'SSE::HTTP3::Connection';
    push @{ $self->{connections} }, $connection;
    $connection->tell('connect', port => $port + 0, %options);
    wait_for(sub { $connection->{open} || defined $connection->{closed} }, 10);
    return $connection;
}

sub fileno ($self) { return $self->{fd} }

sub on_readable ($self) {
    my $got = sysread $self->{socket}, $self->{buffer}, 262144, length $self->{buffer};
    return if !defined $got && $! == EAGAIN;
    return $self->drop if !$got;
    while ($self->{buffer} =~ s/\A(.*)\n//) {
        $self->take(decode_json($1));
    }
    return;
}

sub take ($self, $report) {
    if (defined(my $number = delete $report->{connection})) {
        @{ $self->{connections}[$number] }{ keys %$report } = values %$report;
        return;
    }
    my $response = $self->{requests}[ delete $report->{request} ];
    if (my $headers = delete $report->{headers}) {
        $response->{headers} = { map { @$_ } @$headers };
        $response->{status}  = $response->{headers}{':status'};
    }
    if (defined(my $data = delete $report->{data})) {
        my $bytes = decode_base64($data);
        $response->{body} .= $bytes;
        $response->{parser}->feed($bytes);
    }
    @$response{ keys %$report } = values %$report;
    return;
}

# Drops all connections without closing them.
sub drop ($self) {
    return if !$self->{socket};
    unwatch($self->{fd});
    close delete $self->{input};
    kill 'KILL', $self->{pid};
    close delete $self->{socket};
    waitpid $self->{pid}, 0;
    return;
}

package SSE::HTTP3::Connection;

use v5.36;
use JSON::PP qw(encode_json);
use MIME::Base64 qw(encode_base64);
use SSE::Loop qw(wait_for);

sub tell ($self, $what, %more) {
    local $SIG{PIPE} = 'IGNORE';
    print { $self->{process}{input} } encode_json({ do => $what, connection => $self->{number}, %more }), "\n";
    return;
}

# Sends a request and returns the response, which is filled in while the event loop of the test runs:
# { status, headers, body, events, ended, reset }. Options: method, headers (a list), pieces (of the body,
# one frame each), unfinished (the body does not end).
sub request ($self, $path, %options) {
    my $requests = $self->{process}{requests};
    my $method   = $options{method} // ($options{pieces} ? 'POST' : 'GET');
    my @fields   = ([':method', $method], [':scheme', 'https'], [':authority', 'localhost'], [':path', $path]);
    my @more     = @{ $options{headers} // [] };
    while (my ($name, $value) = splice @more, 0, 2) {
        push @fields, [lc $name, "$value"];
    }
    my $response = bless { number => scalar @$requests, body => '', events => [] }, 'SSE::HTTP3::Response';
    $response->{parser} =
        SSE::Parser->new(event => sub ($event) { push @{ $response->{events} }, $event; return });
    push @$requests, $response;
    my @pieces = $options{pieces} ? (pieces => [map { encode_base64($_, '') } @{ $options{pieces} }]) : ();
    $self->tell('request', request => $response->{number}, headers => \@fields, @pieces,
        $options{unfinished} ? (unfinished => JSON::PP::true) : ());
    return $response;
}

sub cancel ($self, $response) { return $self->tell('cancel', request => $response->{number}) }
sub pause  ($self)            { return $self->tell('pause') }
sub resume ($self)            { return $self->tell('resume') }
sub close  ($self)            { return $self->tell('close') }
sub vanish ($self)            { return $self->tell('vanish') }

package SSE::HTTP3::Response;

use v5.36;
use SSE::Loop qw(wait_for);

sub data ($self) { return map { $_->{data} } grep { $_->{type} eq 'message' } @{ $self->{events} } }

sub is_over ($self) { return $self->{ended} || defined $self->{reset} }

sub wait_open ($self, $timeout = 10) { return wait_for(sub { @{ $self->{events} } }, $timeout) }
sub wait_end  ($self, $timeout = 10) { return wait_for(sub { $self->is_over },       $timeout) }

sub wait_data ($self, $data, $timeout = 10) {
    return wait_for(sub { grep { $_->{data} eq $data } @{ $self->{events} } }, $timeout);
}

1;
