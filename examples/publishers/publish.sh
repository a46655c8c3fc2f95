#!/bin/sh
# Publishes an event:   sh publish.sh http URL DATA     sh publish.sh redis URL CHANNEL DATA
case $1 in
    # With a key, curl can repeat the request if there is no response.
    http) curl -fsS --max-time 5 --retry 3 -H "Idempotency-Key: $$-$(date +%s%N)" --data-binary "$3" "$2" ;;
    redis) redis-cli -u "$2" PUBLISH "$3" "$4" ;;
    *) exit 2 ;;
esac
