package SSE::Nginx;

# Where the nginx and the module under test are, and what that nginx was built with.
# SSE_NGINX_BINARY and SSE_MODULE say so; without them Debian's nginx and the release build are taken.

use v5.36;
use Exporter qw(import);
use File::Basename qw(dirname);
use File::Spec;
use IO::Socket::INET;

our @EXPORT_OK = qw(binary module has_module dynamic_module version free_port);

sub binary { return $ENV{SSE_NGINX_BINARY} // '/usr/sbin/nginx' }

sub module {
    my $root = File::Spec->rel2abs(dirname(__FILE__) . '/../../..');
    return File::Spec->rel2abs($ENV{SSE_MODULE} // "$root/target/release/libngx_http_sse_module.so");
}

# has_module('http_v2') and the like: what configure was told. Of those built by default: not left out.
sub has_module ($name) {
    my %by_default = map { $_ => 1 } qw(http_gzip http_ssi http_auth_basic http_access http_limit_conn);
    return built_with() !~ /--without-${name}_module/ if $by_default{$name};
    return built_with() =~ /--with-${name}_module(?!=dynamic)/;
}

# The file of a dynamic module that is installed for this nginx, if it is.
sub dynamic_module ($name) {
    my ($directory) = built_with() =~ /--modules-path=(\S+)/ or return;
    my $file = "$directory/$name.so";
    return -e $file ? $file : undef;
}

sub version { return built_with() =~ m{nginx/(\d+)\.(\d+)\.(\d+)} ? $1 * 1e6 + $2 * 1e3 + $3 : 0 }

sub built_with {
    state $text = do { my $nginx = binary(); `$nginx -V 2>&1` };
    return $text;
}

# Below the range from which the kernel takes the local ports of outgoing connections.
sub free_port {
    for (1 .. 1000) {
        my $port   = 10_000 + int rand 20_000;
        my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => $port, Proto => 'tcp');
        return $port if $socket;
    }
    die "no free port: $!";
}

1;
