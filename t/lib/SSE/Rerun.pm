package SSE::Rerun;

# Runs other test files again with an additional configuration, each as a subtest.

use v5.36;
use Exporter qw(import);
use FindBin;
use Test::More;

our @EXPORT_OK = qw(rerun);

# rerun('sse_lean on;', 'one.t', 'two.t')
sub rerun ($configuration, @files) {
    local $ENV{SSE_TEST_HTTP} = $configuration;
    for my $file (@files) {
        subtest "$file with $configuration" => sub { run("$FindBin::Bin/$file") };
    }
    return;
}

sub run ($path) {
    my ($ran, $bad) = (0, 0);
    open my $output, '-|', $^X, "-I$FindBin::Bin/lib", $path or die "$path: $!";
    while (my $line = <$output>) {
        next if $line !~ /\A(not )?ok \d+ (?:- )?(.*)/;
        $ran++;
        $bad++ if $1;
        ok(!$1, $2);
    }
    close $output;
    is($?, 0, 'the file as a whole');
    return ok($ran > 0, 'has tests');
}

1;
