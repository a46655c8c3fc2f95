package SSE::Firefox;

# Firefox without a window, driven by Marionette, its protocol for WebDriver (JSON messages with their length, over
# TCP). It is read in the event loop of the test.

use v5.36;
use Errno qw(EAGAIN);
use IO::Socket::INET;
use JSON::PP;
use SSE::BrowserProcess;
use SSE::Cluster ();
use SSE::Loop qw(watch unwatch wait_for);

our @ISA = ('SSE::BrowserProcess');

# Firefox chooses a free port and writes it to its profile. Nothing is downloaded in the background.
my %preferences = (
    'marionette.port'                                  => 0,
    'app.normandy.enabled'                             => JSON::PP::false,
    'app.update.enabled'                               => JSON::PP::false,
    'browser.safebrowsing.downloads.remote.enabled'    => JSON::PP::false,
    'browser.safebrowsing.malware.enabled'             => JSON::PP::false,
    'browser.safebrowsing.phishing.enabled'            => JSON::PP::false,
    'browser.shell.checkDefaultBrowser'                => JSON::PP::false,
    'browser.startup.homepage_override.mstone'         => 'ignore',
    'datareporting.policy.dataSubmissionEnabled'       => JSON::PP::false,
    'extensions.getAddons.cache.enabled'               => JSON::PP::false,
    'network.captive-portal-service.enabled'           => JSON::PP::false,
    'network.connectivity-service.enabled'             => JSON::PP::false,
    'services.settings.server'                         => 'data:,',
    'toolkit.telemetry.reportingpolicy.firstRun'       => JSON::PP::false,
);

my $json = JSON::PP->new->utf8->canonical->allow_nonref;

# The path of the program, or nothing.
sub path ($class) { return SSE::BrowserProcess::find(qw(firefox-esr firefox)) }

# Options of Chromium's command line are ignored.
sub new ($class, @) {
    my $profile = SSE::BrowserProcess::new_profile();
    my @lines   = map { 'user_pref("' . $_ . '", ' . $json->encode($preferences{$_}) . ");\n" } sort keys %preferences;
    SSE::Cluster::write_file("$profile/user.js", join '', @lines);
    my @command = ($class->path, '--headless', '--no-remote', '--marionette', '--profile', $profile);
    my $self    = $class->launch($profile, sub { }, @command);
    my $port;
    wait_for(sub { ($port) = SSE::Cluster::slurp("$profile/MarionetteActivePort") =~ /(\d+)/ }, 30)
        or die 'Firefox does not start: ' . SSE::Cluster::slurp("$profile/err");
    $self->{socket} = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") or die "Firefox: $!";
    $self->{socket}->blocking(0);
    watch($self);
    wait_for(sub { $self->{hello} }, 10) or die 'Firefox does not respond';
    $self->{session} = $self->call('WebDriver:NewSession', { acceptInsecureCerts => JSON::PP::true });
    $self->{window}  = $self->call('WebDriver:GetWindowHandle')->{value};
    return $self;
}

sub fileno ($self) { return CORE::fileno($self->{socket}) }

sub on_readable ($self) {
    my $got = sysread $self->{socket}, my $bytes, 262144;
    return if !defined $got && $! == EAGAIN;
    return $self->drop if !$got;
    $self->{buffer} .= $bytes;
    while ($self->{buffer} =~ /\A(\d+):/ && length($self->{buffer}) >= length($1) + 1 + $1) {
        my $message = $json->decode(substr $self->{buffer}, length($1) + 1, $1);
        substr $self->{buffer}, 0, length($1) + 1 + $1, '';
        # The first message says who responds; the others are [1, id, error, result].
        if (ref $message eq 'HASH') { $self->{hello} = $message }
        else                        { $self->{answers}{ $message->[1] } = $message }
    }
    return;
}

# Runs a command of the protocol and returns its result; dies on an error.
sub call ($self, $method, $params = {}) {
    my $id   = ++$self->{calls};
    my $text = $json->encode([0, $id, $method, $params]);
    $text = length($text) . ":$text";
    while ($text ne '') {
        my $sent = syswrite $self->{socket}, $text;
        if (defined $sent) { substr $text, 0, $sent, '' }
        else               { SSE::Loop::serve_for(0.01) }
    }
    wait_for(sub { $self->{answers}{$id} || !$self->{socket} }, 30);
    my $answer = delete $self->{answers}{$id} or die "$method: no response from Firefox";
    die "$method: $answer->[2]{error}: $answer->[2]{message}" if $answer->[2];
    return $answer->[3];
}

# Opens a tab and waits until the page has loaded.
sub tab ($self, $url) {
    # The current tab may have been closed.
    $self->call('WebDriver:SwitchToWindow', { handle => $self->{window} });
    my $handle = $self->call('WebDriver:NewWindow', { type => 'tab', focus => JSON::PP::true })->{handle};
    my $tab    = bless { browser => $self, handle => $handle }, 'SSE::Firefox::Tab';
    $tab->go($url);
    return $tab;
}

sub version ($self) {
    my $capabilities = $self->{session}{capabilities};
    return "Firefox/$capabilities->{browserVersion}";
}

sub disconnect ($self) {
    # When the test ends by an error, the socket may be gone already.
    my $socket = delete $self->{socket} // return;
    unwatch(CORE::fileno($socket));
    close $socket;
    return;
}

package SSE::Firefox::Tab;

use v5.36;
use MIME::Base64 qw(decode_base64);

our @ISA = ('SSE::BrowserProcess::Tab');

# Commands apply to the current tab of the session.
sub call ($self, $method, $params = {}) {
    $self->{browser}->call('WebDriver:SwitchToWindow', { handle => $self->{handle} });
    return $self->{browser}->call($method, $params);
}

sub go ($self, $url) {
    $self->call('WebDriver:Navigate', { url => $url });
    return;
}

# The value of a JavaScript expression; a promise is awaited. Only eval() sees what scripts of the page have declared
# with const. If the page's policy forbids it, the expression is evaluated beside the page.
sub js ($self, $expression) {
    my $answer = $self->run('window.eval(arguments[0])', $expression);
    $answer = $self->run('eval(arguments[0])', $expression) if defined $answer->[1] && $answer->[1] =~ /\AEvalError/;
    die "$expression: $answer->[1]" if defined $answer->[1];
    return $answer->[0];
}

# [value], or [nothing, error].
sub run ($self, $expression, @arguments) {
    my $script = <<"EOF_SCRIPT";
const done = arguments[arguments.length - 1];
Promise.resolve().then(() => ($expression)).then(value => done([value]), error => done([null, `\${error}`]));
EOF_SCRIPT
    my %call = (script => $script, args => \@arguments, sandbox => undef);
    return $self->call('WebDriver:ExecuteAsyncScript', \%call)->{value};
}

sub screenshot ($self, $file) {
    my $picture = $self->call('WebDriver:TakeScreenshot', { full => JSON::PP::false })->{value};
    SSE::Cluster::write_file($file, decode_base64($picture));
    return;
}

sub close ($self) {
    $self->call('WebDriver:CloseWindow');
    return;
}

1;
