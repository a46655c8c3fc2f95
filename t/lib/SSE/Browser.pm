package SSE::Browser;

# The browser in which tests open pages: Chromium, or the one that SSE_BROWSER names (chromium or firefox). Both
# classes have the same methods.

use v5.36;
use SSE::Chromium;
use SSE::Firefox;

my %classes = (chromium => 'SSE::Chromium', firefox => 'SSE::Firefox');

sub new ($, @options) { return class()->new(@options) }

# The path of the program, or nothing.
sub path { return class()->path }

sub class {
    my $name = $ENV{SSE_BROWSER} // 'chromium';
    return $classes{$name} // die "SSE_BROWSER=$name: there are " . join(' and ', sort keys %classes) . "\n";
}

1;
