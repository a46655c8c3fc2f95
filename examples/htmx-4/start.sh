#!/bin/sh
# Publishes a piece of HTML every second, as an application would. Whoever may publish decides what pages show.
while sleep 1; do
    time=$(date +%T)
    curl -fsS -o /dev/null "$SITE/publish" --data-binary "<li>It is $time.</li>"
done
