package SSE::RunStage;

# A stage for tests of runs that finish, over HTTP/1, and over HTTP/2 and TLS where nginx has them.

use v5.36;
use parent 'SSE::Stage';
use Test::More;
use SSE::Client;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::TLS qw(certificate);

# hub        what the block of the hub contains
# locations  locations, in all servers
# $sse_end of a location with `access_log %%DIR%%/end.log end` is in that file.
sub new ($class, %options) {
    my $has_tls = has_module('http_ssl') && has_module('http_v2') && `curl --version` && `openssl version`;
    my $also    = "server { listen 127.0.0.1:%%PORT_h2%% http2; listen 127.0.0.1:%%PORT_tls%% ssl http2;
        ssl_certificate %%DIR%%/cert.pem; ssl_certificate_key %%DIR%%/key.pem; $options{locations} }";
    my $self = $class->SUPER::new(
        workers => 2,
        http    => "sse_hub default { $options{hub} } sse_retry 1s; sse_drain 0; log_format end \$sse_end;"
            . ($has_tls ? $also : ''),
        server => 'location ~ ^/finish/(.+)$ { sse_publish $1 finish; } location = /status { sse_status; }'
            . $options{locations},
        files => $has_tls ? certificate() : {},
    );
    $self->{has_tls} = $has_tls;
    return $self;
}

sub has_tls ($self) { return $self->{has_tls} }

# Finishes the run of a channel, after an event with this data unless it is empty.
sub finish ($self, $channel, $data = '') {
    my $answer = request(port => $self->port, path => "/finish/$channel?finish", body => $data);
    is($answer->{status}, 201, "$channel is finished") if !$answer || $answer->{status} != 201;
    return $answer;
}

# The response to a request that is not answered with a stream.
sub get ($self, $path, @headers) {
    return request(port => $self->port, path => $path, headers => \@headers) // {};
}

# What a stream has received when it ends, and how it ends.
sub ended ($self, $path, $id = '') {
    my $client = SSE::Client->new(port => $self->port, path => $path, last_event_id => $id);
    wait_for(sub { @{ $client->{ends} } }, 10);
    return (join(' ', $client->data), $client->{ends}[0]{how});
}

1;
