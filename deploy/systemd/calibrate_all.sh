#!/bin/sh
# Fits the last complete month with every engine, for comparison: calibrate_all.sh
# Stops at the first engine that fails. Skips engines that are not installed (exit status 2), and then fails at the end.
absent=0
for engine in mirt pymc brms; do
    "${IRT:-/opt/irt/current/bin/irt}" calibrate --engine "$engine"
    status=$?
    case $status in
        0) ;;
        2) absent=2 ;;
        *) exit "$status" ;;
    esac
done
exit "$absent"
