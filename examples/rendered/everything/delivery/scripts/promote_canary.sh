#!/usr/bin/env bash
# Rendered by Pilotis from contract 'rag', digest 581dccdcd374dcd99ca4f57d5f20f24c8f3ff30a23ba4b2521abb4c440f7ea66.
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
