package SSE::ClientStage;

# An nginx with the module and one in front of it, for clients of others: over plain HTTP/1.1, TLS, and HTTP/2. The
# path of a stream is /SITUATION/CLIENT, its channel SITUATION.CLIENT. The nginx of the module also serves the pages
# of drivers.

use v5.36;
use SSE::ClientEvents qw(event_with_text);
use SSE::Cluster;
use SSE::ExternalClient;
use SSE::HTTP qw(request);
use SSE::TLS qw(certificate);

# The ways from a client to the module, with the version of HTTP that the nginx in front speaks.
my %proxy = (direct => undef, behind => '1.1', behind10 => '1.0');

sub start ($class) {
    my $packages = $SSE::ExternalClient::packages;
    my $streams  = <<"EOF_LOCATIONS";
        # Some clients append to the path, and send POST requests, for which GET stands here.
        error_page 405 = \$uri;
        location ~ ^/clean/(?<client>[\\w-]+)   { sse_stream clean.\$client; sse_reconnect clean; }
        location ~ ^/nothing/(?<client>[\\w-]+) { sse_stream nothing.\$client; sse_unknown_channel 204; }
        location ~ ^/gone/(?<client>[\\w-]+)    { sse_stream cut-off; sse_replay run; }
        location ~ ^/(?<situation>[\\w-]+)/(?<client>[\\w-]+) { sse_stream \$situation.\$client; }
        location ^~ /drivers/ { root $packages; access_log off; }
        # fetch-event-source imports its own files without their extension.
        location ^~ /node_modules/ { root $packages; access_log off; try_files \$uri \$uri.js =404; }
EOF_LOCATIONS
    my $nginx = SSE::Cluster->start(
        workers => 1,
        http    => <<'EOF_HTTP' . servers('direct', $streams),
            types { text/html html; text/javascript js; }
            sse_hub default { zone 8m; history 100; runs 100; }
            sse_retry 100ms;
            sse_drain 500ms;
            sse_open_event off;
            log_format streams '$uri $status id=$http_last_event_id end=$sse_end';
            access_log %%DIR%%/streams.log streams;
EOF_HTTP
        server => <<'EOF_SERVER',
            access_log off;
            location = /admin { sse_admin; }
            location ~ ^/publish/(.+)$ { sse_publish $1 finish; }
EOF_SERVER
        files => certificate(),
    );
    my $front = SSE::Cluster->start(
        workers => 1,
        http    => join('', map { servers($_, proxy_to($nginx->port('direct_plain'), $proxy{$_})) } grep { $proxy{$_} } sort keys %proxy),
        files   => certificate(),
    );
    # A run whose beginning is no longer there.
    request(port => $nginx->port, path => '/publish/cut-off', body => 'the first event');
    request(port => $nginx->port, path => '/admin?channel=cut-off&only=history', method => 'DELETE');
    return bless { nginx => $nginx, front => $front }, $class;
}

# Servers with these locations, for each way to connect.
sub servers ($name, $locations) {
    return <<"EOF_SERVERS";
        server { listen 127.0.0.1:%%PORT_${name}_plain%%; $locations }
        server { listen 127.0.0.1:%%PORT_${name}_tls%% ssl; ssl_certificate %%DIR%%/cert.pem; ssl_certificate_key %%DIR%%/key.pem; $locations }
        server { listen 127.0.0.1:%%PORT_${name}_http2%% ssl http2; ssl_certificate %%DIR%%/cert.pem; ssl_certificate_key %%DIR%%/key.pem; $locations }
EOF_SERVERS
}

sub proxy_to ($port, $version) {
    return "location / { proxy_pass http://127.0.0.1:$port; proxy_http_version $version; proxy_set_header Connection ''; }";
}

sub nginx ($self) { return $self->{nginx} }
sub front ($self) { return $self->{front} }

# The URL of a client's stream. Each page has a host name of its own, because a browser limits the connections to one.
sub address ($self, $way, $client, $situation) {
    my $over   = $client->{over} // 'plain';
    my $server = $proxy{$way} ? $self->{front} : $self->{nginx};
    my $host   = $client->{driver} =~ /\.html\z/ ? "$client->{name}.localhost" : '127.0.0.1';
    return ($over eq 'plain' ? 'http' : 'https') . "://$host:" . $server->port("${way}_$over") . "/$situation/$client->{name}";
}

# Publishes an event with this text in the form that the client reads; with `finish`, it is the last of its run.
sub publish ($self, $client, $situation, $text, %options) {
    my $answer = request(
        port    => $self->{nginx}->port,
        path    => "/publish/$situation.$client->{name}" . ($options{finish} ? '?finish' : ''),
        headers => ['Content-Type' => 'text/event-stream'],
        body    => event_with_text($client->{wants} // 'text', $text),
    );
    die "publishing for $client->{name}: " . ($answer ? "$answer->{status} $answer->{body}" : 'no answer') if !$answer || $answer->{status} != 201;
    return;
}

# The number of open streams of the client.
sub streams ($self, $client, $situation) {
    my $answer = request(port => $self->{nginx}->port, path => "/admin?channel=$situation.$client->{name}");
    return $answer->{json}{subscribers} // 0;
}

# Ends the client's streams as an administrator.
sub end_streams ($self, $client, $situation) {
    request(port => $self->{nginx}->port, method => 'DELETE', path => "/admin?channel=$situation.$client->{name}&only=streams");
    return;
}

# What the access log has of the client's requests that have ended: status, last id, and reason of the end.
sub requests ($self, $client, $situation) {
    my $log = SSE::Cluster::slurp($self->{nginx}->dir . '/streams.log');
    my @found;
    push @found, { status => $1, id => $2 eq '-' ? '' : $2, end => $3 } while $log =~ m{^/\Q$situation/$client->{name}\E(?:/\S*)? (\d+) id=(\S*) end=(\S*)$}mg;
    return @found;
}

sub ends_cleanly ($self) {
    $_->ends_cleanly for $self->{front}, $self->{nginx};
    return;
}

1;
