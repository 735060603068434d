#!/usr/bin/env bash
# Rendered by Pilotis from contract 'rag', digest 3613b9e3b157f0533f165cc10d8cfcc09ee62d4ef796100eb33fa016057e7c2a.
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
