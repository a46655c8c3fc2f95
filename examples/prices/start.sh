#!/bin/sh
# Publishes three prices every second, as an application would.
awk 'BEGIN {
    srand(); split("gold silver copper", metals); split("2041.5 24.25 9.75", prices)
    for (;;) {
        for (i = 1; i <= 3; i++) {
            prices[i] *= 1 + (rand() - .5) / 500
            printf "%s {\"metal\":\"%s\",\"price\":%.2f}\n", metals[i], metals[i], prices[i]
        }
        fflush()
        if (system("sleep 1")) exit
    }
}' | while read -r metal event; do
    curl -fsS -o /dev/null "$SITE/prices/$metal" --data "$event"
done
