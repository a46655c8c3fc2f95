package SSE::Nginx;

# The paths of the nginx and the module under test, and what that nginx was built with. SSE_NGINX_BINARY and
# SSE_MODULE set them; the defaults are Debian's nginx and the release build.

use v5.36;
use Exporter qw(import);
use File::Basename qw(dirname);
use File::Spec;
use File::Temp;
use IO::Socket::INET;

our @EXPORT_OK = qw(binary module load_module has_module dynamic_modules version free_port);

sub binary { return $ENV{SSE_NGINX_BINARY} // '/usr/sbin/nginx' }

# The file of the module; with SSE_MODULE=static, the nginx binary that the module is linked into.
sub module {
    return binary() if ($ENV{SSE_MODULE} // '') eq 'static';
    my $root = File::Spec->rel2abs(dirname(__FILE__) . '/../../..');
    return File::Spec->rel2abs($ENV{SSE_MODULE} // "$root/target/release/ngx_http_sse_module.so");
}

# The first line of a configuration.
sub load_module {
    return ($ENV{SSE_MODULE} // '') eq 'static' ? '' : 'load_module ' . module() . ';';
}

# Whether nginx was built with a module, such as has_module('http_v2'): enabled by configure, or built by
# default and not disabled.
sub has_module ($name) {
    my %by_default = map { $_ => 1 } qw(http_gzip http_ssi http_auth_basic http_access http_limit_conn);
    return built_with() !~ /--without-${name}_module/ if $by_default{$name};
    return built_with() =~ /--with-${name}_module(?!=dynamic)/;
}

# The files of these dynamic modules, in the order in which nginx loads them; if one does not work, undef
# and the reason. A file may exist and belong to another nginx that uses the same directory, so that this
# one cannot load it.
sub dynamic_modules (@names) {
    my ($directory) = built_with() =~ /--modules-path=(\S+)/ or return (undef, 'this nginx loads no modules of others');
    my @files = map { "$directory/$_.so" } @names;
    if (my @missing = grep { !-e } @files) {
        return (undef, "not installed for this nginx: @missing");
    }
    my $refusal = refusal(@files);
    return $refusal ? (undef, $refusal) : (\@files);
}

# The error of nginx with a configuration that only loads these files, or undef.
sub refusal (@files) {
    my $dir    = File::Temp->newdir;
    my $config = "$dir/nginx.conf";
    open my $out, '>', $config or die "$config: $!";
    print {$out} map({ "load_module $_;\n" } @files), "pid $dir/nginx.pid;\nevents { }\n";
    close $out or die "$config: $!";

    my $nginx = binary();
    my $said  = `'$nginx' -t -e stderr -p '$dir' -c '$config' 2>&1`;
    return $? == 0 ? undef : 'nginx refuses it: ' . ($said =~ /\[emerg\] (?:\d+#\d+: )?(.*?)(?: in \Q$config\E\S*)?$/m ? $1 : $said);
}

sub version { return built_with() =~ m{nginx/(\d+)\.(\d+)\.(\d+)} ? $1 * 1e6 + $2 * 1e3 + $3 : 0 }

sub built_with {
    state $text = do { my $nginx = binary(); `$nginx -V 2>&1` };
    return $text;
}

# A free port, below the range of local ports of outgoing connections.
sub free_port {
    for (1 .. 1000) {
        my $port   = 10_000 + int rand 20_000;
        my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => $port, Proto => 'tcp');
        return $port if $socket;
    }
    die "no free port: $!";
}

1;
