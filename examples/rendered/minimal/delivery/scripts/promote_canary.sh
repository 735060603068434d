#!/usr/bin/env bash
# Rendered by Pilotis from contract 'rag', digest 8f4221db5e411bc6cf786ae39d0372290badf155f2589952b5864f813b389536.
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
