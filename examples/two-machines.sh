#!/usr/bin/env bash
# Two machines by hand. On the first:   two-machines.sh head
#                       on the second:  two-machines.sh worker FIRST_MACHINE
#                       on the first:   two-machines.sh search [OPTIONS OF iosfarm search]
# A worker may come or go at any time. `two-machines.sh stop` on each ends it, and all else that you run with Ray there.
#
# Ray asks for a token: `head` makes ~/.ray/auth_token, copy it to the second machine. What goes over the network is not
# encrypted: let Ray's ports be reached from machines that you trust, and from no other.
set -euo pipefail
port=${RAY_PORT:-6379}
folder=$(cd "$(dirname "$0")" && pwd)
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
case "${1:-}" in
  head)
    [[ -n ${RAY_AUTH_TOKEN:-}${RAY_AUTH_TOKEN_PATH:-} ]] || (umask 077 && ray get-auth-token --generate > /dev/null)
    exec ray start --head --port="$port" --include-dashboard=false
    ;;
  worker) exec ray start --address="${2:?the name of the first machine}:$port" ;;
  search)
    shift
    # FARM_DB: postgresql://USER:PASSWORD@HOST/DATABASE, or a file where only one driver writes.
    exec iosfarm search --models "$folder/zoo.yaml" --ray-address "127.0.0.1:$port" \
      ${FARM_DB:+--db "$FARM_DB"} "$@"
    ;;
  stop) exec ray stop ;;
  *)
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
    ;;
esac
