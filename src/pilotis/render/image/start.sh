#!/bin/sh
# Runs its arguments, with each file NAME in /run/secrets as the environment variable NAME where that is not set yet.
set -eu
for file in "${PILOTIS_SECRETS:-/run/secrets}"/[A-Z]*; do
  name=${file##*/}
  case $name in *[!A-Z0-9_]*) continue ;; esac
  [ -f "$file" ] || continue
  printenv "$name" >/dev/null && continue
  value=$(cat "$file")
  export "$name=$value"
done
exec "$@"
