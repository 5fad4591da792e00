#!/bin/sh
# Drift reports of the last N months (default 3): generate_reports.sh [N]
# DATABASE_URL and REPORT_OUTPUT_DIR come from the environment, or from the env file that IRT_ENV_FILE names.
exec "${IRT:-/opt/irt/current/bin/irt}" report drift --last "${1:-3}"
