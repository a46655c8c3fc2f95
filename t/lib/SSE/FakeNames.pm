package SSE::FakeNames;

# A host name whose address a test changes, for nginx: a library that is loaded before libc and resolves this one
# name by a file.

use v5.36;
use File::Temp;
use Test::More;
use SSE::Cluster ();

my $SOURCE = <<'EOF_SOURCE';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

typedef int (*resolver)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    resolver next = (resolver) dlsym(RTLD_NEXT, "getaddrinfo");
    char address[64] = "";
    if (name && strcmp(name, NAME) == 0) {
        FILE *file = fopen(ADDRESS_FILE, "r");
        if (!file || !fgets(address, sizeof address, file)) return EAI_AGAIN;
        fclose(file);
        name = address;
    }
    return next(name, service, hints, found);
}
EOF_SOURCE

# name: the host name. Skips the test file without a C compiler.
sub new ($class, $name) {
    plan(skip_all => 'there is no C compiler') if !`cc --version 2>/dev/null`;
    my $dir = File::Temp->newdir('sse-names-XXXXXXXX', TMPDIR => 1);
    chmod 0755, $dir;
    my $self = bless { dir => $dir }, $class;
    SSE::Cluster::write_file("$dir/names.c", $SOURCE);
    my $said = `cc -O1 -fPIC -shared '-DNAME="$name"' '-DADDRESS_FILE="$dir/address"' -o '$dir/names.so' '$dir/names.c' -ldl 2>&1`;
    die "the resolver was not compiled: $said" if $?;
    return $self;
}

# Sets the address that the name has from now on.
sub set ($self, $address) {
    SSE::Cluster::write_file("$self->{dir}/address.new", $address);
    rename "$self->{dir}/address.new", "$self->{dir}/address" or die "$self->{dir}/address: $!";
    return;
}

# Runs code that starts processes, which then resolve the name in this way.
sub in ($self, $code) {
    local $ENV{LD_PRELOAD} = "$self->{dir}/names.so";
    return $code->();
}

1;
