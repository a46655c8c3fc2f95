#!/bin/sh
# Publishes three prices every second, as an application would. Prices are in cents.
gold=204150 silver=2425 copper=975

# changed CENTS: another price, at most 0.1% away.
changed() {
    awk -v price="$1" -v seed="$(date +%N)" 'BEGIN { srand(seed); printf "%d", price * (1 + (rand() - .5) / 500) + .5 }'
}

publish() {
    curl -fsS -o /dev/null "$SITE/prices/$1" --data "{\"metal\":\"$1\",\"price\":$(($2 / 100)).$(printf %02d $(($2 % 100)))}"
}

while sleep 1; do
    gold=$(changed "$gold") silver=$(changed "$silver") copper=$(changed "$copper")
    publish gold "$gold"
    publish silver "$silver"
    publish copper "$copper"
done
