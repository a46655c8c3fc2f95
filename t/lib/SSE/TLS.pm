package SSE::TLS;

# What a test needs for clients over TLS and HTTP/2: a certificate, and servers that listen for them.

use v5.36;
use Exporter qw(import);
use File::Temp;
use SSE::Cluster;

our @EXPORT_OK = qw(certificate tls_and_http2_servers);

# A key and a self-signed certificate for localhost, as `files` of SSE::Cluster: key.pem and cert.pem.
sub certificate {
    my $dir     = File::Temp->newdir;
    my $command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
        . " -keyout $dir/key.pem -out $dir/cert.pem 2>/dev/null";
    system($command) == 0 or die 'openssl req failed';
    return { map { ("$_.pem" => SSE::Cluster::slurp("$dir/$_.pem")) } qw(key cert) };
}

# Two servers with these locations: HTTP/2 without TLS on port h2c, and TLS with HTTP/2 on port tls.
sub tls_and_http2_servers ($locations) {
    return <<"EOF_SERVERS";
        server { listen 127.0.0.1:%%PORT_h2c%% http2; $locations }
        server {
            listen 127.0.0.1:%%PORT_tls%% ssl http2;
            ssl_certificate %%DIR%%/cert.pem;
            ssl_certificate_key %%DIR%%/key.pem;
            $locations
        }
EOF_SERVERS
}

1;
