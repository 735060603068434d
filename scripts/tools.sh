#!/usr/bin/env bash
# What some tests need besides Python: installed where CI runs us as root, else named in one line. Tests without it skip, and say so.
set -euo pipefail
declare -A packages=([haproxy]=haproxy [promtool]=prometheus [amtool]=prometheus-alertmanager [npm]=npm [shellcheck]=shellcheck)
missing=()
for program in "${!packages[@]}"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "$program" > /dev/null || missing+=("${packages[$program]}")
done
# Too heavy to install for one test: that it is missing is said, and fails nothing.
command -v soffice > /dev/null || echo "the test of the budget sheet's formulas will be skipped; it needs: apt-get install libreoffice-calc" >&2
[[ ${#missing[@]} -eq 0 ]] && exit 0
if [[ -n "${CI:-}" && "$(id -u)" -eq 0 ]] && command -v apt-get > /dev/null; then
  echo "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  if { apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]}"; } > /dev/null 2>&1; then
    exit 0
  fi
fi
echo "some tests will be skipped; they need: apt-get install ${missing[*]}" >&2
