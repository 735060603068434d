#!/usr/bin/env bash
# Rendered by Pilotis from contract 'rag', digest 56e48431201f2aa9b26160b0bfe226a4c6cac88e6a828739a6b1dcde02637166.
# Edit the contract, then run: pilotis render

# Moves RELEASE to its next stage: `promote_canary.sh start` to the first one, `promote_canary.sh promote` to the one after.
set -euo pipefail
: "${RELEASE:?which release}"
read -ra pilotis <<< "${PILOTIS:-pilotis}"
case "${1:-promote}" in
  start | promote) exec "${pilotis[@]}" release "${1:-promote}" "$RELEASE" --json ;;
  *)
    echo "usage: RELEASE=ID $0 [start|promote]" >&2
    exit 2
    ;;
esac
