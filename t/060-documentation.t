# docs/ documents every directive and parameter, variable, and status figure of the module, and no others. Every
# directive is used in t/, files of t/ have unique numbers, and links lead to existing targets.

use v5.36;
use File::Temp;
use FindBin;
use JSON::PP qw(decode_json);
use Test::More;

my $root      = "$FindBin::Bin/..";
my $table     = slurp("$root/src/conf.rs");
my $reference = slurp("$root/docs/directives.md");
my $tests     = join '', map { slurp($_) } grep { !/060-documentation/ } glob "$root/t/*.t";
my %context   = (HttpBlock => 'http', Http => 'http', HttpServerLocation => 'http, server, location', Location => 'location');

# Directives in the source: name and context.
my %directives = $table =~ /directive\(\s*c"(\w+)",\s*DirectiveContext::(\w+)/g;
cmp_ok(scalar keys %directives, '>=', 16, 'the table of directives can be read');

# Directives in docs/directives.md: a heading for each, with syntax, default and context.
my %sections  = $reference =~ /^## (\w+)\n\n(.*?)(?=^## |\z)/msg;
my $variables = delete $sections{Variables} // '';
is(join(' ', sort keys %sections), join(' ', sort keys %directives), 'the sections are exactly the directives');
for my $name (sort keys %directives) {
    my $section = $sections{$name} // '';
    like($section, qr/^    Syntax: +\Q$name\E /m, "$name: its syntax is documented");
    like($section, qr/^    Default: +(?:\Q$name\E .+;|—)$/m, "$name: its default is documented") if $directives{$name} ne 'HttpBlock';
    my ($where) = $section =~ /^    Context: +(.+)$/m;
    is($where, $context{ $directives{$name} }, "$name: its documented context is the one in the source");
    my @syntax = $section =~ /^ {4}(?:Syntax:)? +($name .*)$/mg;
    is(scalar(grep { !/;\z|\}\z/ } @syntax), 0, "$name: its syntax is complete");
    like($tests, qr/\b$name\b/, "$name: it is used in t/");
}

# Parameters: every word that the function of a directive compares an argument with.
my %functions = map { /\bfn (\w+)(.*?\n\}|.*?\n    \})\n/sg } map { slurp($_) } grep { !/\/(?:hub|redis)\.rs\z/ } glob "$root/src/conf/*.rs";
for my $name (grep { $_ ne 'sse_hub' } sort keys %directives) {
    my ($function) = $table =~ /c"$name",[^)]*::(\w+),?\s*\)/;
    ok(exists $functions{ $function // '' }, "$name: its function can be read");
    my @words  = words($function);
    my $syntax = join ' ', ($sections{$name} // '') =~ /^ {4}(?:Syntax:)? +($name .*)$/mg;
    is(join(' ', grep { $syntax !~ /(?<![\w=])\Q$_\E(?!\w=)/ } @words), '', "$name: its syntax has all parameters (@words)");
}

# Directives of the sse_hub block.
my %inner = map { $_ => 1 } slurp("$root/src/conf/hub.rs") =~ /^\s+b"(\w+)" => (?:once\(|self\.redis\.)/mg;
cmp_ok(scalar keys %inner, '>=', 4, 'the directives of a hub can be read');
my %hub_section = ($sections{sse_hub} // '') =~ /^### (\w+)\n\n(.*?)(?=^### |\z)/msg;
is(join(' ', sort keys %hub_section), join(' ', sort keys %inner), 'the section of sse_hub documents exactly its directives');
my $hub_syntax = join ' ', map { /^ {4}(?:Syntax:)? +(\w+ .*;)$/mg } values %hub_section;
for my $word (map { slurp("$root/src/conf/$_.rs") =~ /\bb"([a-z]\w+)" =>|\[b"([a-z]\w+)"\] =>/g } qw(hub redis)) {
    like($hub_syntax, qr/\b$word\b/, "sse_hub: its syntax has $word") if defined $word;
}
for my $name (sort keys %inner) {
    like($hub_section{$name} // '', qr/^    Syntax: +\Q$name\E .+;$/m, "$name: its syntax is documented");
    like($hub_section{$name} // '', qr/^    Default: +(?:$name .+;|—)$/m, "$name: its default is documented");
    like($hub_section{$name} // '', qr/^    Context: +sse_hub$/m, "$name: its context is documented");
    like($tests, qr/\b$name\b/, "$name: it is used in t/");
}

# Variables.
my @variables = slurp("$root/src/http/variables.rs") =~ /name: "(\w+)"/g;
my @listed    = $variables =~ /^\| `\$(\w+)` \|/mg;
# The name of a variable for each hub ends with an underscore.
is(join(' ', sort @listed), join(' ', sort map { s/_\z/_NAME/r } @variables), 'exactly the existing variables are documented');
like($tests, /_\z/ ? qr/\$$_\w/ : qr/\$$_\b/, "\$$_: it is used in t/") for @variables;
my @ends       = slurp("$root/src/worker/end.rs") =~ /End::\w+ => \("(\w+)",/g;
my @documented = $variables =~ /^\| `(\w+)` \|/mg;
is(join(' ', sort @documented), join(' ', sort @ends), 'exactly the values of $sse_end are documented');

# Status figures: the key in JSON, the name in Prometheus, and the reasons.
my $figures = slurp("$root/src/metrics/table.rs") =~ s/\n#\[cfg\(test\)\].*//sr;
my %figures = $figures =~ /^ {8}key: "(\w+)",\n {8}name: "(\w+)",/mg;
cmp_ok(scalar keys %figures, '>=', 26, 'the table of figures can be read');
my ($status) = slurp("$root/docs/operations.md") =~ /^## Status\n(.*?)(?=^## |\z)/ms;
my (%rows, %meanings);
for my $row (grep { /nginx_sse_/ } $status =~ /^\| (`.*)$/mg) {
    my ($keys, $names, $meaning) = split / \| /, $row;
    my @keys  = $keys  =~ /`(\w+)`/g;
    my @names = $names =~ /`(nginx_sse_\w+)`/g;
    is(scalar @names, scalar @keys, "status: @keys: a Prometheus name for each key");
    @rows{@keys}     = @names;
    @meanings{@keys} = ($meaning) x @keys;
}
is_deeply(\%rows, \%figures, 'status: exactly the existing figures are documented, with both names');
like($status, qr/`$_`/, "status: the metric $_ is documented") for slurp("$root/src/metrics/prometheus.rs") =~ /"(nginx_sse_\w+)"/g;
like($status, qr/`(?:\{")?$_/, "status: the member $_ is documented") for qw(version time_ms);
my %values = $figures =~ /^ {8}key: "(\w+)",(?:(?!^ {8}key).)*?Reasons\(&\[(.*?)\]\)/msg;
cmp_ok(scalar keys %values, '>=', 3, 'the reasons can be read');
$_ = [/\("(\w+)", Counter::/g] for values %values;
$values{redis}    = [slurp("$root/src/hub/replication/lease.rs") =~ /RedisState::\w+ => "(\w+)"/g];
$values{delivery} = [slurp("$root/src/metrics/json.rs") =~ /^fn delivery_times.*?json!\(\{ "(\w+)": .*?, "(\w+)": .*?, "(\w+)":/ms];
for my $key (sort keys %values) {
    cmp_ok(scalar $values{$key}->@*, '>=', 2, "status: the values of $key can be read");
    like($meanings{$key}, qr/`(?:\{")?$_`|"$_":/, "status: the value $_ of $key is documented") for $values{$key}->@*;
}

# The dashboard and the alert rules use metrics that exist, and alerts have a description.
my %metrics = map { $_ => 1 } values %figures, map { "$figures{delivery}_$_" } qw(bucket sum count);
for my $file (qw(alerts.yaml alerts-test.yaml grafana-dashboard.json)) {
    my %used = map { $_ => 1 } slurp("$root/monitoring/$file") =~ /\b(nginx_sse_\w+)/g;
    cmp_ok(scalar keys %used, '>=', 5, "monitoring/$file: metrics can be read");
    is(join(' ', sort grep { !$metrics{$_} } keys %used), '', "monitoring/$file: all of them exist");
}
ok(eval { decode_json(slurp("$root/monitoring/grafana-dashboard.json")) }, 'the dashboard is JSON');

# README.md is short and names every directive and variable.
my $readme = slurp("$root/README.md");
cmp_ok(scalar(my @lines = split /\n/, $readme), '<=', 170, 'README.md has at most 170 lines');
like($readme, qr/^\| \[$_\]\(docs\/directives\.md#$_\) \|/m, "README.md links to $_") for sort keys %directives;
like($readme, qr/`\$$_`/, "README.md names \$$_") for grep { !/_\z/ } @variables;

# Every file and function that docs/design.md names exists.
my @steps = slurp("$root/docs/design.md") =~ /`(src\/[\w\/]+\.rs)`\s+`(\w+)`/g;
cmp_ok(scalar @steps, '>=', 80, 'docs/design.md names files and functions');
while (my ($file, $function) = splice @steps, 0, 2) {
    my $text = -e "$root/$file" ? slurp("$root/$file") : '';
    ok($text =~ /\bfn $function\b/, "docs/design.md: $file has a function $function");
}

# Every file that CONTRIBUTING.md names exists.
for my $path (slurp("$root/CONTRIBUTING.md") =~ /`((?:src|t|build|scripts)\/[\w.\/-]+)`/g) {
    ok(-e "$root/$path", "CONTRIBUTING.md: $path exists");
}

# Every test that docs/reliability.md names exists, with that title.
my @named = slurp("$root/docs/reliability.md") =~ /`(t\/[\w.-]+\.t)`(?:: "([^"]+)")?/g;
cmp_ok(scalar @named, '>=', 90, 'docs/reliability.md names tests');
while (my ($file, $title) = splice @named, 0, 2) {
    my $text = -e "$root/$file" ? slurp("$root/$file") : '';
    ok($text ne '' && (!defined $title || index($text, $title) >= 0), "docs/reliability.md: $file has " . ($title // 'tests'));
}

# Names of the files in t/: a number of three digits, which no other file has.
my %files;
push @{ $files{ /\A(\d{3})-[a-z0-9-]+\.t\z/ ? $1 : 'unnumbered' } }, $_ for map { s/.*\///r } glob "$root/t/*.t";
my $unnumbered = delete $files{unnumbered} // [];
is_deeply([map { @$_ } grep { @$_ > 1 } values %files], [],
    'no two files of t/ have the same number');
is_deeply($unnumbered, [], 'each file of t/ has a number of three digits');

# Each example has a page that begins with its name, and the command that runs it.
my $overview = slurp("$root/examples/README.md");
for my $folder (grep { -d } glob "$root/examples/*") {
    my ($name) = $folder =~ /([^\/]+)\z/;
    next if $name eq 'node_modules';
    like($overview, qr/\[$name\]\($name\)/, "examples: the list has $name");
    my $text = -e "$folder/README.md" ? slurp("$folder/README.md") : '';
    like($text, qr/\A# .+\n\n(?:.+\n\n)?    scripts\/run /, "examples/$name: its command is the first that README.md says");
    cmp_ok(scalar(my @lines = split /\n/, $text), '<=', 15, "examples/$name: README.md is short");
}

# The versions: the newest is the one that is built, and each has its date.
my @versions = slurp("$root/CHANGELOG.md") =~ /^## (.+)$/mg;
shift @versions if $versions[0] eq 'Unreleased';
is_deeply([grep { !/\A\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)\z/ } @versions], [], 'CHANGELOG.md: each version has a date');
my ($built) = slurp("$root/Cargo.toml") =~ /^version = "(.+)"$/m;
like($versions[0], qr/\A\Q$built\E /, 'CHANGELOG.md: the newest version is that of the module');

# The man page, which scripts/man-page makes from docs/directives.md.
my $man = `$root/scripts/man-page`;
is($?, 0, 'the man page can be made');
like($man, qr/^\.SS $_$/m, "man page: it has $_") for sort keys %directives;
like($man, qr/^\.SS $_ \(in sse_hub\)$/m, "man page: it has $_") for sort keys %inner;
like($man, qr/^\\fB\$$_/m, "man page: it has \$$_") for @variables;
unlike($man =~ s{^\.nf\n.*?^\.fi\n}{}msgr, qr{`|\]\(|\*\*|^#}m, "man page: nothing is left of Markdown");
SKIP: {
    skip 'groff is not installed', 2 if !`groff --version 2>/dev/null`;
    my $said = File::Temp->new;
    open my $groff, '|-', "groff -man -Kutf8 -Tutf8 -ww -z 2>$said" or die "groff: $!";
    print {$groff} $man;
    ok(close($groff), 'man page: groff accepts it');
    is(slurp("$said"), '', 'man page: without a warning');
}

# A build in fuzz/, loom/, or bench/ puts files there that belong to one machine.
like(slurp("$root/.gitignore"), qr/^target\/$/m, 'directories of builds are not part of the project');

# Links lead to a file and to one of its headings.
for my $path ('README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', glob("$root/docs/*.md"), glob("$root/{js,examples,examples/*}/*.md")) {
    my $name   = $path =~ s/\A\Q$root\E\///r;
    my $text   = slurp("$root/$name");
    my @broken = grep { /\A\s*\|/ != /\|\s*\z/ } grep { !/\A\s{4}/ } split /\n/, $text;
    is_deeply(\@broken, [], "$name: no row of a table is broken");
    my $folder = $name =~ /\A(.*\/)/ ? "$root/$1" : "$root/";
    for my $link ($text =~ /\]\(((?!https?:)[^)\s]+)\)/g) {
        my ($file, $anchor) = $link =~ /\A([^#]*)(?:#(.+))?\z/;
        my $target = $file eq '' ? "$root/$name" : "$folder$file";
        my $found  = -e $target && (!defined $anchor || grep { $_ eq $anchor } anchors(slurp($target)));
        ok($found, "$name: $link exists");
    }
    is_deeply([grep { !/\A *(?:\| --- )+\|\z/ } $text =~ /^(.*\| --- \|.*)$/mg], [], "$name: each row of a table is a line");
    unlike($text, qr/https?:\/\/(?:www\.)?(?:pypi\.org|npmjs\.com|crates\.io|docs\.rs|packagist\.org|rubygems\.org)/,
        "$name: links lead to projects' own pages");
}

done_testing();

# The words in the code of a function in src/conf and of those that it calls.
sub words ($function, $seen = {}) {
    return () if $seen->{$function}++;
    my $body = $functions{$function} // '';
    return ($body =~ /\bb"([a-z_]+=?)"/g, map { words($_, $seen) } grep { exists $functions{$_} } $body =~ /\b(\w+)\(/g);
}

# The anchors of a page's headings, as GitHub makes them.
sub anchors ($text) {
    return map { lc($_) =~ s/[^\w -]//gr =~ s/ /-/gr } $text =~ /^#+ (.+)$/mg;
}

sub slurp ($path) {
    open my $in, '<', $path or die "$path: $!";
    local $/ = undef;
    return <$in>;
}
