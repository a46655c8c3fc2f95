package SSE::ExternalClient;

# A client of somebody else, run by one of the drivers in t/clients/drivers: a program, or a page in the browser.
# The driver reports in JSON objects what its client does:
#
#     {"open": true}         the client has reported an open stream
#     {"event": TEXT}        it has delivered an event with this text
#     {"error": MESSAGE}     it has reported an error, and may continue
#     {"end": HOW}           it sends no more requests: "complete", if the program learns that the response is
#                            complete; "error"; "stops", if it has given up by itself; or "exit STATUS". A driver
#                            that exits without it "exits".

use v5.36;
use Errno qw(EAGAIN);
use File::Basename qw(dirname);
use File::Spec;
use JSON::PP;
use SSE::Loop qw(watch unwatch);

our $directory = File::Spec->rel2abs(dirname(__FILE__) . '/../../clients');

# Where scripts/test clients has installed the packages.
our $packages = $ENV{SSE_CLIENT_PACKAGES};

my $json = JSON::PP->new->utf8;

# The interpreter of a driver, by its extension.
my %interpreter = (mjs => \&node, py => sub { "$packages/python/bin/python3" });

# The path of the installed Node.js.
sub node { return "$packages/node_modules/.bin/node" }

# driver: the name of a file in t/clients/drivers. address: the URL of the stream. arguments: more arguments of a
# program. in: SSE::Chromium or SSE::Firefox, for a page. The page comes from the server of the stream.
sub start ($class, %options) {
    my ($extension) = $options{driver} =~ /\.(\w+)\z/;
    return $extension eq 'html' ? SSE::ExternalClient::Page->open(%options) : $class->run(%options, extension => $extension);
}

sub run ($class, %options) {
    my $pid = open my $output, '-|' // die "fork: $!";
    if (!$pid) {
        chdir $packages;
        open STDIN,  '<', '/dev/null';
        open STDERR, '>', $options{log} // '/dev/null';
        my @command = ($interpreter{ $options{extension} }->(), "$packages/drivers/$options{driver}");
        # The kernel kills it if the test is killed.
        exec 'setpriv', '--pdeathsig', 'KILL', @command, $options{address}, @{ $options{arguments} // [] } or POSIX::_exit(127);
    }
    $output->blocking(0);
    my $self = bless { pid => $pid, socket => $output, fd => CORE::fileno($output), buffer => '', reports => [] }, $class;
    watch($self);
    return $self;
}

sub fileno ($self) { return $self->{fd} }

sub on_readable ($self) {
    my $got = sysread $self->{socket}, $self->{buffer}, 65536, length $self->{buffer};
    return if !defined $got && $! == EAGAIN;
    push @{ $self->{reports} }, $json->decode($1) while $self->{buffer} =~ s/\A(\{.*\})\n//;
    return if $got;
    push @{ $self->{reports} }, { end => 'exits' } if !$self->reported('end');
    $self->drop;
    return;
}

# All reports so far.
sub reports ($self) { return @{ $self->{reports} } }

# The values of the reports of this kind.
sub reported ($self, $kind) { return grep { defined } map { $_->{$kind} } $self->reports }

sub drop ($self) {
    return if !$self->{socket};
    unwatch($self->{fd});
    kill 'KILL', $self->{pid};
    close delete $self->{socket};    # waits for the process
    return;
}

sub DESTROY ($self) {
    local ($?, $!, $@);
    $self->drop;
    return;
}

package SSE::ExternalClient::Page;

use v5.36;

our @ISA = ('SSE::ExternalClient');

sub open ($class, %options) {
    my ($server, $path) = $options{address} =~ m{\A(\w+://[^/]+)(/.*)\z};
    my $tab = $options{in}->tab("$server/drivers/$options{driver}?$path");
    return bless { tab => $tab, reports => [] }, $class;
}

sub reports ($self) {
    $self->{reports} = $self->{tab}->js('lines') if $self->{tab};
    return @{ $self->{reports} };
}

sub drop ($self) {
    return if !$self->{tab};
    my $tab = $self->{tab};
    () = eval { $self->reports };
    delete $self->{tab};
    eval { $tab->close };
    return;
}

1;
