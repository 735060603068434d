#!/usr/bin/env bash
# Rendered by Pilotis from contract 'rag', digest 581dccdcd374dcd99ca4f57d5f20f24c8f3ff30a23ba4b2521abb4c440f7ea66.
# Edit the contract, then run: pilotis render

# Waits for Pilotis' verdict on RELEASE at its present stage. Exit code 0: it may go on; 1: it failed; 3: no verdict in time.
set -euo pipefail
: "${RELEASE:?which release}"
read -ra pilotis <<< "${PILOTIS:-pilotis}"
deadline=$((SECONDS + ${WAIT_S:-20400}))
while true; do
  verdict=0
  "${pilotis[@]}" release check "$RELEASE" --json || verdict=$?
  # 3 says that there is too little to judge yet; whatever else is not 0 is a failure.
  [ "$verdict" -eq 3 ] || exit "$verdict"
  [ "$SECONDS" -lt "$deadline" ] || exit 3
  sleep "${EVERY_S:-30}"
done
