#!/bin/sh
# Publishes a Turbo stream every second, as an application would. Whoever may publish decides what pages show.
while sleep 1; do
    time=$(date +%T)
    curl -fsS -o /dev/null "$SITE/publish" --data-binary "<turbo-stream action='prepend' target='list'><template><li>It is $time.</li></template></turbo-stream>"
done
