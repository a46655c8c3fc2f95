# Directives that are wrong: nginx refuses to start and says which one, in which file and line.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use SSE::TestNginxSetup;

# Each block's `refused` is what the line must say, before the file and its line where nginx knows them.
add_block_preprocessor(sub ($block) {
    $block->set_value('config', 'location /s { sse_stream messages; }') if !defined $block->config;
});

run_blocks();

__DATA__

=== TEST 1: a hub needs a name
--- http_config
    sse_hub { zone 4m; }
--- refused
"sse_hub"



=== TEST 2: a hub belongs into http
--- config
    sse_hub news { zone 4m; }
--- refused
"sse_hub" directive is not allowed here



=== TEST 3: a hub is not defined twice
--- http_config
    sse_hub news { zone 4m; }
    sse_hub news { zone 4m; }
--- refused
duplicate hub "news"



=== TEST 4: a hub knows its directives
--- http_config
    sse_hub news { colour red; }
--- refused
"colour"



=== TEST 5: zone is a size
--- http_config
    sse_hub news { zone big; }
--- refused
invalid value "big" in "zone" directive



=== TEST 6: zone is at least 1m
--- http_config
    sse_hub news { zone 512k; max_event_size 4k; }
--- refused
zone of hub "news" is too small



=== TEST 7: zone holds at least eight of the largest events
--- http_config
    sse_hub news { zone 4m; max_event_size 1m; }
--- refused
zone of hub "news" is too small



=== TEST 8: the same with the default zone and large events
--- http_config
    sse_hub news { max_event_size 16m; }
--- refused
zone of hub "news" is too small



=== TEST 9: zone stands once in a hub
--- http_config
    sse_hub news { zone 4m; zone 8m; }
--- refused
"zone" directive is duplicate



=== TEST 10: history is a number
--- http_config
    sse_hub news { history many; }
--- refused
invalid value "many" in "history" directive



=== TEST 11: history's age is a time
--- http_config
    sse_hub news { history 10 soon; }
--- refused
invalid value "soon" in "history" directive



=== TEST 12: history takes at most two values
--- http_config
    sse_hub news { history 10 1m 2m; }
--- refused
invalid number of arguments in "history"



=== TEST 13: max_event_size is a size
--- http_config
    sse_hub news { max_event_size huge; }
--- refused
invalid value "huge" in "max_event_size" directive



=== TEST 14: a stream needs a channel
--- config
    location /s { sse_stream; }
--- refused
invalid number of arguments in "sse_stream"



=== TEST 15: a stream that names only its hub has no channel
--- http_config
    sse_hub news { zone 4m; }
--- config
    location /s { sse_stream hub=news; }
--- refused
"sse_stream"



=== TEST 16: a stream belongs into a location
--- config
    sse_stream messages;
--- refused
"sse_stream" directive is not allowed here



=== TEST 17: a location has one sse_stream
--- config
    location /s { sse_stream a; sse_stream b; }
--- refused
"sse_stream" directive is duplicate



=== TEST 18: split= is one character
--- config
    location /s { sse_stream $arg_c split=ab; }
--- refused
"split=ab" in "sse_stream" directive



=== TEST 19: split= is not empty
--- config
    location /s { sse_stream $arg_c split=; }
--- refused
"split=" in "sse_stream" directive



=== TEST 20: a stream's hub must be known
--- config
    location /s { sse_stream messages hub=nowhere; }
--- refused
unknown hub "nowhere" in "sse_stream"



=== TEST 21: a variable must be known
--- config
    location /s { sse_stream $no_such_variable_anywhere; }
--- nowhere
--- refused
unknown "no_such_variable_anywhere" variable



=== TEST 22: with two hubs and none called default a stream must name one
--- http_config
    sse_hub news { zone 4m; }
    sse_hub chat { zone 4m; }
--- config
    location /s { sse_stream messages; }
--- refused
"sse_stream" must name one of the hubs



=== TEST 23: with two hubs and none called default a publisher must name one
--- http_config
    sse_hub news { zone 4m; }
    sse_hub chat { zone 4m; }
--- config
    location /p { sse_publish messages; }
--- refused
"sse_publish" must name one of the hubs



=== TEST 24: a publisher needs a channel
--- config
    location /p { sse_publish; }
--- refused
invalid number of arguments in "sse_publish"



=== TEST 25: a publisher has one channel
--- config
    location /p { sse_publish one two; }
--- refused
(?:two|"sse_publish")



=== TEST 26: a publisher belongs into a location
--- config
    sse_publish messages;
--- refused
"sse_publish" directive is not allowed here



=== TEST 27: a publisher's hub must be known
--- config
    location /p { sse_publish messages hub=nowhere; }
--- refused
unknown hub "nowhere" in "sse_publish"



=== TEST 28: the status' hub must be known
--- config
    location /status { sse_status hub=nowhere; }
--- refused
unknown hub "nowhere" in "sse_status"



=== TEST 29: the status takes nothing but a hub
--- config
    location /status { sse_status everything; }
--- refused
(?:everything|"sse_status")



=== TEST 30: sse_replay is a number, off or all
--- http_config
    sse_replay some;
--- refused
invalid value "some" in "sse_replay" directive



=== TEST 31: sse_replay is not negative
--- http_config
    sse_replay -5;
--- refused
invalid value "-5" in "sse_replay" directive



=== TEST 32: sse_last_event_id needs a value
--- http_config
    sse_last_event_id;
--- refused
invalid number of arguments in "sse_last_event_id"



=== TEST 33: sse_heartbeat is a time
--- http_config
    sse_heartbeat often;
--- refused
invalid value "often" in "sse_heartbeat" directive



=== TEST 34: sse_heartbeat stands once
--- http_config
    sse_heartbeat 5s;
    sse_heartbeat 6s;
--- refused
"sse_heartbeat" directive is duplicate



=== TEST 35: sse_retry is a time
--- http_config
    sse_retry later;
--- refused
invalid value "later" in "sse_retry" directive



=== TEST 36: the jitter of sse_retry is a time
--- http_config
    sse_retry 3s jitter=some;
--- refused
invalid value "some" in "sse_retry" directive



=== TEST 37: sse_retry knows nothing but jitter=
--- http_config
    sse_retry 3s spread=1s;
--- refused
spread



=== TEST 38: sse_open_event has one name
--- http_config
    sse_open_event a b;
--- refused
invalid number of arguments in "sse_open_event"



=== TEST 39: sse_gap_event has one name
--- http_config
    sse_gap_event;
--- refused
invalid number of arguments in "sse_gap_event"



=== TEST 40: sse_slow_client is skip or close
--- http_config
    sse_slow_client perhaps;
--- refused
invalid value "perhaps" in "sse_slow_client" directive



=== TEST 41: sse_drain is a time
--- http_config
    sse_drain slowly;
--- refused
invalid value "slowly" in "sse_drain" directive



=== TEST 42: a name given to an event holds no line end
--- http_config
    sse_open_event "a
b";
--- nowhere
--- refused
invalid (?:value|event name) "a



=== TEST 43: pattern is said once
--- config
    location /s { sse_stream a* pattern pattern; }
--- refused
"sse_stream" directive is duplicate



=== TEST 44: a stream of patterns needs one
--- config
    location /s { sse_stream pattern; }
--- refused
no channel in "sse_stream"



=== TEST 45: a pattern is no name of the module's own channels
--- config
    location /s { sse_stream sse.* pattern; }
--- refused
invalid pattern "sse\.\*": channel names beginning with sse\. are reserved



=== TEST 46: not in a list either, or with a variable
--- config
    location /s { sse_stream a,sse.$arg_x pattern split=,; }
--- refused
invalid pattern "a,sse\.\$arg_x": channel names beginning with sse\. are reserved



=== TEST 47: a pattern is checked like a name
--- config
    location /s { sse_stream "a*	b" pattern; }
--- refused
invalid pattern ".*": the channel name contains a control character



=== TEST 48: streams in Redis cannot be asked for by a pattern
--- http_config
    sse_hub default { redis redis://127.0.0.1; redis_source stream; }
--- config
    location /s { sse_stream a* pattern; }
--- refused
"pattern" cannot be used with "redis_source stream"
