# The file that scripts/build hands out: a copy of what cargo made, which nginx can load at any moment.

use v5.36;
use FindBin;
use Test::More;
use File::Temp qw(tempdir);

my $script = "$FindBin::Bin/../scripts/module.sh";
my $dir    = tempdir(CLEANUP => 1);
my $built  = "$dir/libngx_http_sse_module.so";
my $module = "$dir/ngx_http_sse_module.so";

sub contents ($file) {
    open my $in, '<', $file or return;
    local $/ = undef;
    return scalar <$in>;
}

sub build ($text) {
    open my $out, '>', $built or die "$built: $!";
    print {$out} $text;
    close $out or die "$built: $!";
    return;
}

# name_module as scripts/build calls it: what it prints, or nothing if it failed.
sub name_module () {
    my $said = qx(bash -c '. "\$1"; name_module "\$2"' - '$script' '$dir' 2>/dev/null);
    return $? ? undef : $said;
}

build('first');
is(name_module(), "$module\n", 'the path is printed');
is(contents($module), 'first', 'it is what cargo made');

open my $loaded, '<', $module or die "$module: $!";
my $inode = (stat $module)[1];
name_module();
is((stat $module)[1], $inode, 'an unchanged module stays the same file');

build('second');
name_module();
is(contents($module), 'second', 'a changed module is handed out');
is(join('', <$loaded>), 'first', 'an nginx that runs the earlier one keeps it');

unlink $built;
is(name_module(), undef, 'without a library there is no module');
is_deeply([glob "$dir/*"], [$module], 'nothing else is left in the directory');

done_testing();
