package SSE::Parser;

# The client side of the protocol: a strict implementation of how the HTML standard interprets an event stream
# (9.2.6), so that tests see what a browser would.

use v5.36;

# Callbacks: event => sub ($event), $event = { type, data, id }.
sub new ($class, %options) {
    return bless {
        on_event      => $options{event},
        last_event_id => $options{last_event_id} // '',
        comments      => 0,
        retry         => undef,
        retries       => [],
        buffer        => '',
        at_start      => 1,
        skip_lf       => 0,
        data          => undef,
        type          => '',
        id            => $options{last_event_id} // '',
    }, $class;
}

sub feed ($self, $bytes) {
    my $text = $self->{buffer} . $bytes;
    if ($self->{at_start}) {
        if (length $text < 3 && "\xef\xbb\xbf" =~ /\A\Q$text\E/) {
            $self->{buffer} = $text;
            return;
        }
        $text =~ s/\A\xef\xbb\xbf//;
        $self->{at_start} = 0;
    }
    if ($self->{skip_lf} && $text ne '') {
        $text =~ s/\A\n//;
        $self->{skip_lf} = 0;
    }
    if (index($text, "\r") >= 0) {
        $self->{skip_lf} = 1 if $text =~ /\r\z/;
        $text =~ s/\r\n?/\n/g;
    }
    my $end = rindex $text, "\n";
    if ($end < 0) {
        $self->{buffer} = $text;
        return;
    }
    $self->{buffer} = substr $text, $end + 1;
    my @lines = split /\n/, substr($text, 0, $end), -1;
    @lines = ('') if !@lines;    # split gives nothing for the empty string
    $self->line($_) for @lines;
    return;
}

sub line ($self, $line) {
    return $self->dispatch if $line eq '';
    my $colon = index $line, ':';
    if ($colon == 0) {
        $self->{comments}++;
        return;
    }
    my ($field, $value) = ($line, '');
    if ($colon > 0) {
        $field = substr $line, 0, $colon;
        $value = substr $line, $colon + 1;
        $value = substr $value, 1 if substr($value, 0, 1) eq ' ';
    }
    if ($field eq 'data') {
        $self->{data} = defined $self->{data} ? "$self->{data}\n$value" : $value;
    } elsif ($field eq 'id') {
        $self->{id} = $value if index($value, "\0") < 0;
    } elsif ($field eq 'event') {
        $self->{type} = $value;
    } elsif ($field eq 'retry' && $value =~ /\A[0-9]+\z/) {
        $self->{retry} = $value;
        push @{ $self->{retries} }, $value;
    }
    return;
}

sub dispatch ($self) {
    $self->{last_event_id} = $self->{id};
    my ($type, $data) = @$self{qw(type data)};
    $self->{type} = '';
    $self->{data} = undef;
    return if !defined $data;
    $self->{on_event}->({ type => $type eq '' ? 'message' : $type, data => $data, id => $self->{id} });
    return;
}

1;
