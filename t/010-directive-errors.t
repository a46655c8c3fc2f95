# Invalid directives: nginx refuses to start and names the directive, the file, and the line.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use SSE::DeclarativeTests;

# `refused` in a block is the expected message, without the file and line that nginx adds where it knows
# them.
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



=== TEST 2: sse_hub is only allowed in http
--- config
    sse_hub news { zone 4m; }
--- refused
"sse_hub" directive is not allowed here



=== TEST 3: a hub cannot be defined twice
--- http_config
    sse_hub news { zone 4m; }
    sse_hub news { zone 4m; }
--- refused
duplicate hub "news"



=== TEST 4: an unknown directive in a hub is an error
--- http_config
    sse_hub news { colour red; }
--- refused
"colour"



=== TEST 5: zone must be a size
--- http_config
    sse_hub news { zone big; }
--- refused
invalid value "big" in "zone" directive



=== TEST 6: zone is at least 1m
--- http_config
    sse_hub news { zone 512k; max_event_size 4k; }
--- refused
zone of hub "news" is too small



=== TEST 7: zone must hold at least eight events of the largest size
--- http_config
    sse_hub news { zone 4m; max_event_size 1m; }
--- refused
zone of hub "news" is too small



=== TEST 8: the default zone must hold eight events of a configured max_event_size
--- http_config
    sse_hub news { max_event_size 16m; }
--- refused
zone of hub "news" is too small



=== TEST 9: zone cannot be repeated in a hub
--- http_config
    sse_hub news { zone 4m; zone 8m; }
--- refused
"zone" directive is duplicate



=== TEST 10: history must be a number
--- http_config
    sse_hub news { history many; }
--- refused
invalid value "many" in "history" directive



=== TEST 11: the age of history must be a time
--- http_config
    sse_hub news { history 10 soon; }
--- refused
invalid value "soon" in "history" directive



=== TEST 12: history takes at most two values
--- http_config
    sse_hub news { history 10 1m 2m; }
--- refused
invalid number of arguments in "history"



=== TEST 13: max_event_size must be a size
--- http_config
    sse_hub news { max_event_size huge; }
--- refused
invalid value "huge" in "max_event_size" directive



=== TEST 14: a stream needs a channel
--- config
    location /s { sse_stream; }
--- refused
invalid number of arguments in "sse_stream"



=== TEST 15: a stream with a hub but no channel is an error
--- http_config
    sse_hub news { zone 4m; }
--- config
    location /s { sse_stream hub=news; }
--- refused
"sse_stream"



=== TEST 16: sse_stream is only allowed in a location
--- config
    sse_stream messages;
--- refused
"sse_stream" directive is not allowed here



=== TEST 17: a location can have only one sse_stream
--- config
    location /s { sse_stream a; sse_stream b; }
--- refused
"sse_stream" directive is duplicate



=== TEST 18: split= must be one character
--- config
    location /s { sse_stream $arg_c split=ab; }
--- refused
"split=ab" in "sse_stream" directive



=== TEST 19: split= must not be empty
--- config
    location /s { sse_stream $arg_c split=; }
--- refused
"split=" in "sse_stream" directive



=== TEST 20: the hub of a stream must exist
--- config
    location /s { sse_stream messages hub=nowhere; }
--- refused
unknown hub "nowhere" in "sse_stream"



=== TEST 21: a variable must exist
--- config
    location /s { sse_stream $no_such_variable_anywhere; }
--- nowhere
--- refused
unknown "no_such_variable_anywhere" variable



=== TEST 22: a stream must name its hub if there are two and none is called default
--- http_config
    sse_hub news { zone 4m; }
    sse_hub chat { zone 4m; }
--- config
    location /s { sse_stream messages; }
--- refused
"sse_stream" must name one of the hubs



=== TEST 23: a publisher must name its hub if there are two and none is called default
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



=== TEST 25: a publisher has only one channel
--- config
    location /p { sse_publish one two; }
--- refused
(?:two|"sse_publish")



=== TEST 26: sse_publish is only allowed in a location
--- config
    sse_publish messages;
--- refused
"sse_publish" directive is not allowed here



=== TEST 27: the hub of a publisher must exist
--- config
    location /p { sse_publish messages hub=nowhere; }
--- refused
unknown hub "nowhere" in "sse_publish"



=== TEST 28: the hub of sse_status must exist
--- config
    location /status { sse_status hub=nowhere; }
--- refused
unknown hub "nowhere" in "sse_status"



=== TEST 29: sse_status has no parameter but hub=
--- config
    location /status { sse_status everything; }
--- refused
(?:everything|"sse_status")



=== TEST 30: sse_replay must be a number, off, or all
--- http_config
    sse_replay some;
--- refused
invalid value "some" in "sse_replay" directive



=== TEST 31: sse_replay must not be negative
--- http_config
    sse_replay -5;
--- refused
invalid value "-5" in "sse_replay" directive



=== TEST 32: sse_last_event_id needs a value
--- http_config
    sse_last_event_id;
--- refused
invalid number of arguments in "sse_last_event_id"



=== TEST 33: sse_heartbeat must be a time
--- http_config
    sse_heartbeat often;
--- refused
invalid value "often" in "sse_heartbeat" directive



=== TEST 34: sse_heartbeat cannot be repeated
--- http_config
    sse_heartbeat 5s;
    sse_heartbeat 6s;
--- refused
"sse_heartbeat" directive is duplicate



=== TEST 35: sse_retry must be a time
--- http_config
    sse_retry later;
--- refused
invalid value "later" in "sse_retry" directive



=== TEST 36: the jitter of sse_retry must be a time
--- http_config
    sse_retry 3s jitter=some;
--- refused
invalid value "some" in "sse_retry" directive



=== TEST 37: sse_retry has no parameter but jitter=
--- http_config
    sse_retry 3s spread=1s;
--- refused
spread



=== TEST 38: sse_open_event takes one name
--- http_config
    sse_open_event a b;
--- refused
invalid number of arguments in "sse_open_event"



=== TEST 39: sse_gap_event takes one name
--- http_config
    sse_gap_event;
--- refused
invalid number of arguments in "sse_gap_event"



=== TEST 40: sse_slow_client must be skip or close
--- http_config
    sse_slow_client perhaps;
--- refused
invalid value "perhaps" in "sse_slow_client" directive



=== TEST 41: sse_drain must be a time
--- http_config
    sse_drain slowly;
--- refused
invalid value "slowly" in "sse_drain" directive



=== TEST 42: the name of an event must not contain a line break
--- http_config
    sse_open_event "a
b";
--- nowhere
--- refused
invalid (?:value|event name) "a



=== TEST 43: the parameter pattern cannot be repeated
--- config
    location /s { sse_stream a* pattern pattern; }
--- refused
"sse_stream" directive is duplicate



=== TEST 44: a stream of patterns needs a pattern
--- config
    location /s { sse_stream pattern; }
--- refused
no channel in "sse_stream"



=== TEST 45: a pattern cannot name a reserved channel
--- config
    location /s { sse_stream sse.* pattern; }
--- refused
invalid pattern "sse\.\*": channel names beginning with sse\. are reserved



=== TEST 46: a reserved channel cannot be named in a list or with a variable
--- config
    location /s { sse_stream a,sse.$arg_x pattern split=,; }
--- refused
invalid pattern "a,sse\.\$arg_x": channel names beginning with sse\. are reserved



=== TEST 47: a pattern is validated like a channel name
--- config
    location /s { sse_stream "a*	b" pattern; }
--- refused
invalid pattern ".*": the channel name contains a control character



=== TEST 48: patterns are not available with redis_source stream
--- http_config
    sse_hub default { redis redis://127.0.0.1; redis_source stream; }
--- config
    location /s { sse_stream a* pattern; }
--- refused
"pattern" cannot be used with "redis_source stream"



=== TEST 49: sse_proxy_unbuffered is on or off
--- config
    sse_proxy_unbuffered yes;
--- refused
invalid value "yes" in "sse_proxy_unbuffered" directive



=== TEST 50: sse_proxy_unbuffered cannot be given twice
--- config
    sse_proxy_unbuffered on;
    sse_proxy_unbuffered off;
--- refused
"sse_proxy_unbuffered" directive is duplicate



=== TEST 51: sse_proxy_read_timeout must be a time
--- config
    sse_proxy_read_timeout soon;
--- refused
invalid value "soon" in "sse_proxy_read_timeout" directive



=== TEST 52: sse_proxy_read_timeout cannot be zero
--- config
    location / { sse_proxy_read_timeout 0; }
--- refused
invalid value "0" in "sse_proxy_read_timeout" directive



=== TEST 53: sse_proxy_read_timeout cannot be given twice
--- config
    sse_proxy_read_timeout 5m;
    sse_proxy_read_timeout off;
--- refused
"sse_proxy_read_timeout" directive is duplicate



=== TEST 54: sse_reconnect is cut or clean
--- config
    sse_reconnect on;
--- refused
invalid value "on" in "sse_reconnect" directive



=== TEST 55: sse_reconnect cannot be given twice
--- config
    sse_reconnect cut;
    sse_reconnect clean;
--- refused
"sse_reconnect" directive is duplicate



=== TEST 56: sse_finished takes 204, replay or off
--- config
    location /s { sse_stream messages; sse_finished 410; }
--- refused
invalid value "410" in "sse_finished" directive



=== TEST 57: sse_unknown_channel takes wait or 204
--- config
    location /s { sse_stream messages; sse_unknown_channel off; }
--- refused
invalid value "off" in "sse_unknown_channel" directive



=== TEST 58: sse_publish takes finish once
--- config
    location /p { sse_publish messages finish finish; }
--- refused
"sse_publish" directive



=== TEST 59: sse_since takes one value
--- config
    location /s { sse_stream messages; sse_since $arg_since $arg_from; }
--- refused
invalid number of arguments in "sse_since" directive



=== TEST 60: sse_since occurs once
--- config
    sse_since $arg_since;
    sse_since $arg_from;
--- refused
"sse_since" directive is duplicate



=== TEST 61: runs must be a number
--- http_config
    sse_hub news { runs many; }
--- refused
invalid value "many" in "runs" directive



=== TEST 62: the age of runs must be a time
--- http_config
    sse_hub news { runs 10 soon; }
--- refused
invalid value "soon" in "runs" directive



=== TEST 63: runs takes at most two values
--- http_config
    sse_hub news { runs 10 1m 2m; }
--- refused
invalid number of arguments in "runs"



=== TEST 64: runs cannot be given twice
--- http_config
    sse_hub news { runs 10; runs off; }
--- refused
"runs" directive is duplicate



=== TEST 65: sse_replay run needs a hub with runs
--- http_config
    sse_hub news { history 10; }
--- config
    sse_replay run;
    location /s { sse_stream messages; }
--- refused
"sse_replay run" needs "runs" in hub "news"



=== TEST 66: sse_replay run needs runs that are not off
--- http_config
    sse_hub news { runs off; }
--- config
    location /s { sse_stream messages; sse_replay run; }
--- refused
"sse_replay run" needs "runs" in hub "news"



=== TEST 67: sse_replay run is for channels only
--- http_config
    sse_hub news { runs 10; }
--- config
    location /s { sse_stream messages* pattern; sse_replay run; }
--- refused
"sse_replay run" cannot be used with "pattern"



=== TEST 68: the module's own channels have no runs
--- http_config
    sse_hub news { runs 10; presence on; }
--- config
    location /s { sse_stream sse.presence; sse_replay run; }
--- refused
"sse_replay run" cannot be used with the module's own channels
