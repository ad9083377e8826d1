#!/usr/bin/env bash
# This machine's devices, side by side: Ray is started for the search and ends with it.
set -euo pipefail
folder=$(cd "$(dirname "$0")" && pwd)
exec iosfarm search --models "$folder/zoo.yaml" --log search.jsonl "$@"
