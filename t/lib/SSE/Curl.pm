package SSE::Curl;

# A stream read by curl, for what a plain socket does not support: TLS and HTTP/2. The body is parsed as by
# SSE::Client.

use v5.36;
use Errno qw(EAGAIN);
use IO::Handle;
use POSIX ();
use SSE::Loop qw(watch unwatch wait_for);
use SSE::Parser;

# args: arguments of curl, including the URL.
sub new ($class, @args) {
    my $pid = open my $output, '-|' // die "fork: $!";
    if (!$pid) {
        open STDERR, '>', '/dev/null';
        exec 'curl', '-sNik', '--max-time', 300, @args or POSIX::_exit(127);
    }
    $output->blocking(0);
    my $self = bless { socket => $output, fd => CORE::fileno($output), pid => $pid, buffer => '',
        events => [], body => '' }, $class;
    $self->{parser} = SSE::Parser->new(event => sub ($event) { push @{ $self->{events} }, $event; return });
    watch($self);
    return $self;
}

sub fileno ($self) { return $self->{fd} }

sub on_readable ($self) {
    my $got = sysread $self->{socket}, my $bytes, 65536;
    return if !defined $got && $! == EAGAIN;
    return $self->drop if !$got;
    if (!defined $self->{status}) {
        $self->{buffer} .= $bytes;
        return if $self->{buffer} !~ s{\AHTTP/(\S+) (\d+)[^\r]*\r\n(.*?\r\n)\r\n}{}s;
        @$self{qw(version status head)} = ($1, $2, $3);
        $bytes = $self->{buffer};
    }
    $self->{body} .= $bytes;
    $self->{parser}->feed($bytes) if $bytes ne '';
    return;
}

sub header ($self, $name) {
    return ($self->{head} // '') =~ /^\Q$name\E:[ ]*([^\r\n]*)/mi ? $1 : undef;
}

sub data ($self) { return map { $_->{data} } grep { $_->{type} eq 'message' } @{ $self->{events} } }

sub is_open ($self) { return defined $self->{status} && defined $self->{socket} }

sub wait_data ($self, $data, $timeout = 10) {
    return wait_for(sub { grep { $_->{data} eq $data } @{ $self->{events} } }, $timeout);
}

# Waits for the end of the response and returns the exit status of curl, which is 0 only if the response is
# complete.
sub wait_end ($self, $timeout = 10) {
    return wait_for(sub { !$self->{socket} }, $timeout) ? $self->{exit} : undef;
}

# Ends curl if the response is not complete, and reaps it.
sub drop ($self) {
    return if !$self->{socket};
    unwatch($self->{fd});
    kill 'TERM', $self->{pid} if !eof_seen($self);
    close delete $self->{socket};    # waits for curl
    $self->{exit} = $? >> 8;
    return;
}

sub eof_seen ($self) {
    my $got = sysread $self->{socket}, my $rest, 1;
    return defined $got && $got == 0;
}

1;
