"""Publishes an event:   python3 publish.py http URL DATA     python3 publish.py redis URL CHANNEL DATA"""

import sys
import urllib.request
import uuid


def publish_http(url, data):
    # With a key, the request can be repeated if there is no response.
    headers = {"Content-Type": "text/plain", "Idempotency-Key": str(uuid.uuid4())}
    request = urllib.request.Request(url, data.encode(), headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read().decode()


def publish_redis(url, channel, data):
    import redis  # pip install redis

    return redis.Redis.from_url(url).publish(channel, data)


how, *arguments = sys.argv[1:]
print({"http": publish_http, "redis": publish_redis}[how](*arguments))
