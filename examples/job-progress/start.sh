#!/bin/sh
# The job: ten steps, and the last event with its exit status, which finishes the run. It starts again after a minute.
while :; do
    step=1
    while [ $step -le 10 ]; do
        sleep 1
        curl -fsS -o /dev/null "$SITE/steps/import-1" --data "imported part $step of 10"
        step=$((step + 1))
    done
    # With a key, the request can be repeated until it succeeds.
    curl -fsS -o /dev/null --retry 10 -H "Idempotency-Key: import-1 $(date +%s)" "$SITE/steps/import-1?event=done&finish=1" --data 0
    sleep 60
done
