# The README's reference and the module's table of directives name the same things, and no directive
# goes untested.

use v5.36;
use FindBin;
use Test::More;

my $root   = "$FindBin::Bin/..";
my $table  = slurp("$root/src/conf.rs");
my $readme = slurp("$root/README.md");
my $tests  = join '', map { slurp($_) } grep { !/46-documents/ } glob "$root/t/*.t";
my %context = (HttpBlock => 'http', Anywhere => 'http, server, location', Location => 'location');

# What the module has: name => place and arguments.
my %directives = $table =~ /directive\(\s*c"(\w+)",\s*Place::(\w+)/g;
cmp_ok(scalar keys %directives, '>=', 16, 'the table of directives can be read');

# What the README says: a heading for each, with syntax, default and context.
my %sections = $readme =~ /^#### (\w+)\n\n(.*?)(?=^#|\z)/msg;
is(join(' ', sort keys %sections), join(' ', sort keys %directives), 'the README has a section for each, and no other');
for my $name (sort keys %directives) {
    my $section = $sections{$name} // '';
    like($section, qr/^    Syntax: +\Q$name\E /m, "$name: its syntax is there");
    like($section, qr/^    Default: +(?:\Q$name\E .+;|—)$/m, "$name: its default is there") if $directives{$name} ne 'HttpBlock';
    my ($where) = $section =~ /^    Context: +(.+)$/m;
    is($where, $context{ $directives{$name} }, "$name: its context is that of the table");
    my @syntax = $section =~ /^ {4}(?:Syntax:)? +($name .*)$/mg;
    is(scalar(grep { !/;\z|\}\z/ } @syntax), 0, "$name: its syntax is whole");
    like($tests, qr/\b$name\b/, "$name: it is used in t/");
}

# The block of a hub.
my %inner = map { $_ => 1 } slurp("$root/src/conf/hub.rs") =~ /^\s+b"(\w+)" => (?:once\(|self\.redis\.)/mg;
cmp_ok(scalar keys %inner, '>=', 4, 'the directives of a hub can be read');
my %told = map { $_ => 1 } ($sections{sse_hub} // '') =~ /^    (\w+) .*;/mg;
delete @told{qw(sse_hub)};
is(join(' ', sort keys %told), join(' ', sort keys %inner), 'the section of sse_hub names each, and no other');
for my $name (sort keys %inner) {
    like($sections{sse_hub}, qr/^    \Q$name\E .*;\s+Default: (?:$name .+;|—)$/m, "$name: its default is there");
    like($tests, qr/\b$name\b/, "$name: it is used in t/");
}

# Variables.
my @variables = slurp("$root/src/http/variables.rs") =~ /name: "(\w+)"/g;
my @listed    = $readme =~ /^\| `\$(\w+)` \|/mg;
is(join(' ', sort @listed), join(' ', sort @variables), 'the README lists the variables of the module');
like($tests, qr/\$$_\b/, "\$$_: it is used in t/") for @variables;

# What the README points to is there.
for my $path ($readme =~ /\]\(([\w][\w.\/-]*)\)/g) {
    ok(-e "$root/$path", "$path exists");
}
for my $anchor ($readme =~ /\]\(#([\w-]+)\)/g) {
    ok((grep { lc($_) =~ s/[^\w -]//gr =~ s/ /-/gr eq $anchor } $readme =~ /^#+ (.+)$/mg), "#$anchor exists");
}

done_testing();

sub slurp ($path) {
    open my $in, '<', $path or die "$path: $!";
    local $/ = undef;
    return <$in>;
}
