<?php
// Publishes an event:   php publish.php http URL DATA     php publish.php redis URL CHANNEL DATA

function publish_http(string $url, string $data): string
{
    // With a key, the request can be repeated if there is no response.
    $headers = ['Content-Type: text/plain', 'Idempotency-Key: ' . bin2hex(random_bytes(16))];
    $options = ['method' => 'POST', 'header' => $headers, 'content' => $data, 'timeout' => 5];
    $answer = file_get_contents($url, false, stream_context_create(['http' => $options]));
    if ($answer === false) {
        exit(1);
    }
    return $answer;
}

function publish_redis(string $url, string $channel, string $data): int
{
    $redis = new Redis(); // the extension phpredis
    $redis->connect(parse_url($url, PHP_URL_HOST), parse_url($url, PHP_URL_PORT) ?? 6379);
    return $redis->publish($channel, $data);
}

[, $how] = $argv;
echo ($how === 'http' ? 'publish_http' : 'publish_redis')(...array_slice($argv, 2)), "\n";
