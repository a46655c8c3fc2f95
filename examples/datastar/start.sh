#!/bin/sh
# Publishes a fragment every second, as an application would. Whoever may publish decides what pages show.
while sleep 1; do
    time=$(date +%T)
    curl -fsS -o /dev/null "$SITE/publish?event=datastar-merge-fragments" --data-binary "selector #list
mergeMode prepend
fragments <li>It is $time.</li>"
done
