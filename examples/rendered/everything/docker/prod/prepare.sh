#!/usr/bin/env bash
# Rendered by Pilotis from contract 'rag', digest 581dccdcd374dcd99ca4f57d5f20f24c8f3ff30a23ba4b2521abb4c440f7ea66.
# Edit the contract, then run: pilotis render

# Makes the secrets of env prod that are not there yet, in ./secrets; run it as often as you like, nothing is overwritten.
# Keys of models are taken from variables of their names.
set -euo pipefail
cd "$(dirname "$0")"
umask 077
mkdir -p secrets/alertmanager
# Containers read these files as users of their own, so the files are open and the folder around them is closed.
chmod 0700 secrets
chmod 0755 secrets/alertmanager

keep() { # NAME: what comes in becomes that file, unless it is there
  local content
  content=$(cat)
  if [[ ! -e secrets/$1 ]]; then
    printf '%s\n' "$content" >"secrets/.$1.new"
    chmod 0444 "secrets/.$1.new"
    mv "secrets/.$1.new" "secrets/$1"
    echo "made secrets/$1"
  fi
}
password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

password | keep postgres
password | keep grafana
for name in broker cache; do
  echo "requirepass $(password)" | keep "$name"
done
echo "postgresql://pilotis:$(cat secrets/postgres)@postgres:5432/pilotis" | keep PILOTIS_DATABASE_URL
echo "redis://:$(cut -d ' ' -f 2 secrets/cache)@cache:6379/0" | keep PILOTIS_REDIS_URL
echo "redis://:$(cut -d ' ' -f 2 secrets/broker)@broker:6379/0" | keep PILOTIS_BROKER_URL

missing=0
key() { # NAME: from the variable of that name
  if [[ -e secrets/$1 ]]; then
    return
  elif [[ -n ${!1:-} ]]; then
    printf '%s' "${!1}" | keep "$1"
  else
    echo "missing: $1; export it and run this again" >&2
    missing=1
  fi
}
key OPENAI_API_KEY
exit "$missing"
