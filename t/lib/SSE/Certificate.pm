package SSE::Certificate;

# A key and a certificate for a server of TLS, as files for SSE::Cluster: key.pem and cert.pem.

use v5.36;
use Exporter qw(import);
use File::Temp;
use SSE::Cluster;

our @EXPORT_OK = qw(certificate);

sub certificate {
    my $dir     = File::Temp->newdir;
    my $command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
        . " -keyout $dir/key.pem -out $dir/cert.pem 2>/dev/null";
    system($command) == 0 or die 'openssl req failed';
    return { map { ("$_.pem" => SSE::Cluster::slurp("$dir/$_.pem")) } qw(key cert) };
}

1;
