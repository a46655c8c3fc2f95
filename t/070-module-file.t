# scripts/build installs a copy of the library that cargo built, atomically, so that nginx can load it at
# any moment.

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

# Calls name_module as scripts/build does. Returns its output, or undef if it failed.
sub name_module () {
    my $said = qx(bash -c '. "\$1"; name_module "\$2"' - '$script' '$dir' 2>/dev/null);
    return $? ? undef : $said;
}

build('first');
is(name_module(), "$module\n", 'the path of the module is printed');
is(contents($module), 'first', 'the module is a copy of the library');

open my $loaded, '<', $module or die "$module: $!";
my $inode = (stat $module)[1];
name_module();
is((stat $module)[1], $inode, 'an unchanged module is not replaced');

build('second');
name_module();
is(contents($module), 'second', 'a changed library replaces the module');
is(join('', <$loaded>), 'first', 'a running nginx keeps the earlier file');

unlink $built;
is(name_module(), undef, 'without a library there is an error and no module');
is_deeply([glob "$dir/*"], [$module], 'no temporary file is left behind');

done_testing();
