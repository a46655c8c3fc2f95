package SSE::ClientEvents;

# Events in the forms that clients of others understand. Each carries a text, which the client's driver reports.

use v5.36;
use Exporter qw(import);
use JSON::PP;

our @EXPORT_OK = qw(event_with_text);

my $json = JSON::PP->new->canonical;

# The type and the data of an event.
my %forms = (
    text     => sub ($text) { ('', $text) },
    html     => sub ($text) { ('', "<p>$text</p>") },
    turbo    => sub ($text) { ('', qq{<turbo-stream action="append" target="log"><template><p>$text</p></template></turbo-stream>}) },
    datastar => sub ($text) { ('datastar-merge-fragments', "selector #log\nmergeMode append\nfragments <p>$text</p>") },
    message_chunk    => sub ($text) { ('', $json->encode({ type => 'text-delta', id => 'text', delta => $text })) },
    completion_chunk => sub ($text) {
        my $choice = { index => 0, delta => { content => $text }, finish_reason => undef };
        ('', $json->encode({ id => 'answer', object => 'chat.completion.chunk', created => 1, model => 'none', choices => [$choice] }));
    },
);

# A batch that consists of one event with this text, in this form.
sub event_with_text ($form, $text) {
    my ($type, $data) = $forms{$form}->($text);
    return ($type eq '' ? '' : "event: $type\n") . join('', map { "data: $_\n" } split /\n/, $data) . "\n";
}

1;
