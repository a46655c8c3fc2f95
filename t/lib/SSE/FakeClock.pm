package SSE::FakeClock;

# A wall clock that a test sets, for nginx and Redis: a library that is loaded before libc and adds an offset to
# CLOCK_REALTIME. As when an administrator sets a machine's clock, the monotonic clock is not affected.

use v5.36;
use Fcntl qw(O_CREAT O_RDWR);
use File::Temp;
use Test::More;
use SSE::Cluster ();

my $SOURCE = <<'EOF_SOURCE';
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset; /* seconds, in a file that processes share */

__attribute__((constructor)) static void map_offset(void) {
    int fd = open(OFFSET_FILE, O_RDONLY);
    if (fd < 0) abort();
    offset = mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
    if (offset == MAP_FAILED) abort();
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) && offset) time->tv_sec += *offset;
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void) zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
EOF_SOURCE

# Skips the test file without a C compiler.
sub new ($class) {
    plan(skip_all => 'there is no C compiler') if !`cc --version 2>/dev/null`;
    my $dir = File::Temp->newdir('sse-clock-XXXXXXXX', TMPDIR => 1);
    chmod 0755, $dir;
    my $self = bless { dir => $dir }, $class;
    $self->set(0);
    SSE::Cluster::write_file("$dir/clock.c", $SOURCE);
    my $said = `cc -O1 -fPIC -shared '-DOFFSET_FILE="$dir/offset"' -o '$dir/clock.so' '$dir/clock.c' 2>&1`;
    die "the clock was not compiled: $said" if $?;
    return $self;
}

# Sets the clock to the machine's plus that many seconds, in all processes that were started by `in`.
sub set ($self, $seconds) {
    sysopen my $file, "$self->{dir}/offset", O_RDWR | O_CREAT or die "$self->{dir}/offset: $!";
    syswrite $file, pack 'q', $seconds;
    return;
}

# Runs code that starts processes, which then have this clock.
sub in ($self, $code) {
    local $ENV{LD_PRELOAD} = "$self->{dir}/clock.so";
    return $code->();
}

1;
