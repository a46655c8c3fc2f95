# Tokens and keys of other projects' libraries, with each algorithm, and sets of keys in the forms in which providers
# publish them.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Test::More;
use JSON::PP;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Stage;

# Where scripts/test tokens has installed the packages.
my $packages = $ENV{SSE_TOKEN_PACKAGES};
plan skip_all => 'scripts/test tokens runs this file' if !$packages;

my @issuers = map { issued(@$_) } (
    ['node', 'jose.mjs'],
    ["$packages/python/bin/python3", 'pyjwt.py'],
    ["$packages/python/bin/python3", 'providers.py'],
    $ENV{SSE_LCOBUCCI} ? ['php', 'lcobucci.php', $ENV{SSE_LCOBUCCI}] : (),
);

my ($locations, %files) = ('');
for my $site (map { @{ $_->{sites} } } @issuers) {
    my $rules = $site->{rules} // '';
    for my $number (0 .. $#{ $site->{keys} }) {
        my $key  = $site->{keys}[$number];
        my $file = "$site->{name}-$number.key";
        $files{$file} = $key->{text};
        $rules .= " sse_jwt_key %%DIR%%/$file $key->{options};";
    }
    $locations .= "location = /$site->{name} { sse_jwt bearer; $rules sse_stream \"user:\$sse_jwt_claim_sub\"; }\n";
}
my $stage = SSE::Stage->new(server => $locations, files => \%files);
my $log   = $stage->cluster->error_log;

for my $issuer (@issuers) {
    for my $site (@{ $issuer->{sites} }) {
        for my $token (@{ $site->{tokens} }) {
            my ($status, $why) = opened($site, $token);
            is($status, $token->{status}, "$issuer->{library}, $site->{name}: $token->{title}") or diag($why);
        }
        my @said = $log =~ /\[warn\] .*\Q$site->{name}\E-0\.key.*: (key \d.*?)(?:,| in |$)/mg;
        is_deeply([map { s/;.*//r } @said], $site->{warnings} // [], "$site->{name}: keys that are not used are reported");
    }
}
$stage->ends_cleanly;
done_testing();

# What an issuer says: its library, and for each site the keys and the tokens.
sub issued ($program, $script, @arguments) {
    open my $output, '-|', 'env', '-C', $packages, $program, "issuers/$script", @arguments or die "$program: $!";
    local $/;
    my $text = <$output>;
    close $output or die "$script failed";
    my $issued = JSON::PP->new->decode($text);
    note("$issued->{library}: " . join ', ', map { $_->{name} } @{ $issued->{sites} });
    return $issued;
}

# The status with which a stream opens, and the last line of the error log.
sub opened ($site, $token) {
    my $client = SSE::Client->new(port => $stage->port, path => "/$site->{name}", headers => [Authorization => "Bearer $token->{token}"]);
    wait_for(sub { $client->{status} }, 10);
    $client->close;
    return ($client->{status}, ($stage->cluster->error_log =~ /(.*)\n\z/)[0]);
}
