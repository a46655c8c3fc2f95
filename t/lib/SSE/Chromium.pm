package SSE::Chromium;

# Chromium without a window, driven by the DevTools protocol over two pipes (JSON messages
# that end with NUL). It is read in the event loop of the test.

use v5.36;
use Errno qw(EAGAIN);
use Fcntl qw(F_DUPFD);
use JSON::PP;
use POSIX ();
use SSE::BrowserProcess;
use SSE::Cluster ();
use SSE::Loop qw(watch unwatch wait_for);

our @ISA = ('SSE::BrowserProcess');

# Nothing is downloaded in the background, and the profile is temporary.
my @quiet = qw(--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run
    --no-default-browser-check --disable-background-networking --disable-component-update --disable-sync
    --disable-extensions --disable-default-apps --ignore-certificate-errors --remote-debugging-pipe);

my $json = JSON::PP->new->utf8;

# The path of the program, or nothing.
sub path ($class) { return SSE::BrowserProcess::find(qw(chromium chromium-browser google-chrome)) }

sub new ($class, @options) {
    my $profile = SSE::BrowserProcess::new_profile();
    pipe(my $their_in, my $to_them)     or die "pipe: $!";
    pipe(my $from_them, my $their_out) or die "pipe: $!";
    my $move_pipes = sub {
        # Above 3 and 4, so that neither is overwritten before it is moved.
        my ($in, $out) = map { fcntl($_, F_DUPFD, 100) // POSIX::_exit(126) } $their_in, $their_out;
        POSIX::dup2($in, 3);
        POSIX::dup2($out, 4);
    };
    my $self = $class->launch($profile, $move_pipes, $class->path, @quiet, "--user-data-dir=$profile/data", @options, 'about:blank');
    close $_ for $their_in, $their_out;
    $_->blocking(0) for $to_them, $from_them;
    @$self{qw(in out fd events)} = ($from_them, $to_them, CORE::fileno($from_them), []);
    watch($self);
    return $self;
}

sub fileno ($self) { return $self->{fd} }

sub on_readable ($self) {
    my $got = sysread $self->{in}, my $bytes, 262144;
    return if !defined $got && $! == EAGAIN;
    return $self->drop if !$got;
    $self->{buffer} .= $bytes;
    while ($self->{buffer} =~ s/\A([^\0]*)\0//) {
        my $message = $json->decode($1);
        if (defined $message->{id}) { $self->{answers}{ $message->{id} } = $message }
        else                        { push @{ $self->{events} }, $message }
    }
    return;
}

# Runs a command of the protocol and returns its result; dies on an error.
sub call ($self, $method, $params = {}, $session = undef) {
    my $id      = ++$self->{calls};
    my $message = { id => $id, method => $method, params => $params, defined $session ? (sessionId => $session) : () };
    my $text    = $json->encode($message) . "\0";
    while ($text ne '') {
        my $sent = syswrite $self->{out}, $text;
        if (defined $sent) { substr $text, 0, $sent, '' }
        else               { SSE::Loop::serve_for(0.01) }
    }
    wait_for(sub { $self->{answers}{$id} || !$self->{in} }, 30);
    my $answer = delete $self->{answers}{$id} or die "$method: no response from the browser";
    die "$method: $answer->{error}{message}" if $answer->{error};
    return $answer->{result};
}

# Opens a tab and waits until the page has loaded.
sub tab ($self, $url) {
    my $target  = $self->call('Target.createTarget', { url => 'about:blank' })->{targetId};
    my $session = $self->call('Target.attachToTarget', { targetId => $target, flatten => JSON::PP::true })->{sessionId};
    my $tab = bless { browser => $self, target => $target, session => $session }, 'SSE::Chromium::Tab';
    $tab->go($url);
    return $tab;
}

sub version ($self) { return $self->call('Browser.getVersion')->{product} }

sub disconnect ($self) {
    return if !$self->{in};
    unwatch($self->{fd});
    close delete $self->{$_} for qw(in out);
    return;
}

package SSE::Chromium::Tab;

use v5.36;
use MIME::Base64 qw(decode_base64);
use SSE::Loop qw(wait_for);

our @ISA = ('SSE::BrowserProcess::Tab');

sub call ($self, $method, $params = {}) { return $self->{browser}->call($method, $params, $self->{session}) }

sub go ($self, $url) {
    my $answer = $self->call('Page.navigate', { url => $url });
    die "$url: $answer->{errorText}" if $answer->{errorText};
    wait_for(sub { $self->js('document.readyState') eq 'complete' && $self->js('location.href') ne 'about:blank' }, 20)
        or die "$url does not load";
    return;
}

# The value of a JavaScript expression; a promise is awaited.
sub js ($self, $expression) {
    my $answer = $self->call('Runtime.evaluate',
        { expression => $expression, awaitPromise => JSON::PP::true, returnByValue => JSON::PP::true });
    die "$expression: " . ($answer->{exceptionDetails}{exception}{description} // $answer->{exceptionDetails}{text})
        if $answer->{exceptionDetails};
    return $answer->{result}{value};
}

sub screenshot ($self, $file) {
    SSE::Cluster::write_file($file, decode_base64($self->call('Page.captureScreenshot', { format => 'png' })->{data}));
    return;
}

sub close ($self) {
    $self->{browser}->call('Target.closeTarget', { targetId => $self->{target} });
    return;
}

1;
