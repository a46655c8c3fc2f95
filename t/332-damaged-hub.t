# A worker that cannot attach to its hub, because the shared memory was damaged, says so in the error log, and in
# each response.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    workers => 1,
    http    => 'sse_hub default { zone 4m; }',
    server  => 'location = /s { sse_stream news; } location = /p { sse_publish news; }
                location = /status { sse_status; } location = /admin { sse_admin; }',
);
my $nginx = $stage->cluster;
is(request(port => $stage->port, path => '/p', body => 'x')->{status}, 201, 'the hub works');
ok(damage($nginx->pid), 'its memory is damaged');
ok($nginx->kill_worker(($nginx->workers)[0]), 'the worker is replaced');
is(scalar($nginx->wait_lines(qr/\[crit\].*sse: this process cannot serve hub "default"/)), 1, 'the new one logs that it cannot serve the hub');

for my $case (['POST', '/p', 'x'], ['GET', '/status'], ['GET', '/admin'], ['DELETE', '/admin?channel=news']) {
    my ($method, $path, @body) = @$case;
    my $answer = request(port => $stage->port, method => $method, path => $path, @body ? (body => $body[0]) : ());
    is($answer->{status}, 503, "$method $path is answered with 503");
    is($answer->{json}{error}, 'this process does not serve the hub', 'and the reason');
}
my $stream = request(port => $stage->port, path => '/s');
is($stream->{status}, 200, 'a stream is opened');
like($stream->{body}, qr/\A(?:retry: \d+\n|:[^\n]*\n|\n)*\z/, 'and ends at once, so that its client reconnects')
    or diag($stream->{body});
$nginx->allow(qr/sse: this process cannot serve hub/);
$nginx->ends_cleanly;
done_testing();

# Overwrites the first words of each hub in the shared memory of a process: their magic number and version.
sub damage ($pid) {
    no warnings 'portable';    # addresses have 64 bits
    my ($magic, $damaged) = ("buhESS", 0);
    open my $memory, '+<:raw', "/proc/$pid/mem" or die "memory of $pid: $!";
    for my $line (split /\n/, SSE::Cluster::slurp("/proc/$pid/maps")) {
        my ($from, $to) = $line =~ m{^([0-9a-f]+)-([0-9a-f]+) rw-s .*/dev/zero} or next;
        my ($start, $size) = (hex $from, hex($to) - hex($from));
        sysseek $memory, $start, 0 or next;
        (sysread($memory, my $bytes, $size) // 0) == $size or next;
        while ($bytes =~ /[\x01-\x20]\x00\Q$magic\E/g) {
            sysseek $memory, $start + $-[0], 0;
            $damaged++ if syswrite($memory, "\0" x 8) == 8;
        }
    }
    return $damaged;
}
