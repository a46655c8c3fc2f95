package SSE::ExampleConfig;

# An nginx that runs one of the configurations of nginx-conf/, unchanged except for ports, the path of the
# module, and the directory.

use v5.36;
use parent 'SSE::Cluster';
use File::Basename qw(dirname);
use SSE::Nginx qw(load_module);

my $root = dirname(__FILE__) . '/../../..';

# name: the name of the file without ".conf". port() stands for 8080 in the file, port('app') for 8081. application:
# the port of an application that is used instead of the one on 8081. html: the folder of the page.
sub write_config ($self) {
    my $text = SSE::Cluster::slurp("$root/nginx-conf/$self->{name}.conf") or die "no nginx-conf/$self->{name}.conf";
    my $dir    = $self->dir;
    my $load = load_module();
    my $temp   = join ' ', map { "${_}_temp_path $dir/$_;" } 'client_body',
        grep { SSE::Cluster::has_no_flag("--without-http_${_}_module") } qw(proxy fastcgi uwsgi scgi);
    $text =~ s/^load_module \S+;/$load daemon off; pid $dir\/nginx.pid; error_log $dir\/error.log info;/m;
    $text =~ s/^worker_processes \S+;/worker_processes $self->{workers};/m;
    $text =~ s/^http \{/http { access_log $dir\/access.log; $temp/m;
    $text =~ s/proxy_pass http:\/\/127\.0\.0\.1:8081/proxy_pass http:\/\/127.0.0.1:$self->{application}/g if $self->{application};
    $text =~ s/127\.0\.0\.1:8080/'127.0.0.1:' . $self->port/ge;
    $text =~ s/127\.0\.0\.1:8081/'127.0.0.1:' . $self->port('app')/ge;
    my $html = $self->{html} // "$root/nginx-conf/html";
    $text =~ s{root html;}{root $html;};
    SSE::Cluster::write_file($self->config_file, $text);
    return;
}

1;
