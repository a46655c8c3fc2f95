package SSE::Blocks;

# What all declarative files share. Load it before Test::Nginx::Socket: unless the caller has chosen, it
# gives the file a port and a folder of its own, so that files may run beside one another, and loads
# the module. Then settle() makes a clean error log part of every block.

use v5.36;
use File::Temp;
use SSE::Nginx qw(binary module load_module free_port);

our $root;    # the folder lives as long as this does

BEGIN {
    $root = File::Temp->newdir('sse-t-XXXXXXXX', TMPDIR => 1);
    chmod 0755, $root;
    $ENV{TEST_NGINX_BINARY}       = binary();
    $ENV{TEST_NGINX_LOAD_MODULES} = module() if load_module();
    $ENV{TEST_NGINX_SERVROOT}   //= "$root/servroot";
    $ENV{TEST_NGINX_PORT}       //= free_port();
}

my @never = (qr/\[alert\]/, qr/\[emerg\]/, qr/panicked/, qr/open socket .* left/);

# Heartbeats off, for a declarative stream is read until it has been silent for a while.
sub settle {
    die 'no module at ' . module() . "; scripts/build makes it\n" if !-e module();
    Test::Nginx::Util::no_shuffle();
    Test::Nginx::Util::master_on();
    Test::Nginx::Util::workers(2);
    Test::Nginx::Util::add_block_preprocessor(\&complete);
    return;
}

sub complete ($block) {
    my $http = $block->http_config // '';
    $block->set_value('http_config', "sse_heartbeat off;\n$http") if $http !~ /sse_heartbeat|no defaults/;
    $block->set_value('timeout', '0.5') if defined $block->abort && !defined $block->timeout;
    return if defined $block->must_die;
    $block->set_value('no_error_log',          [@never]) if !defined $block->no_error_log;
    $block->set_value('no_shutdown_error_log', [@never]);
    return;
}

1;
