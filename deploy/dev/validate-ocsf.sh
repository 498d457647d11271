#!/usr/bin/env bash
# Reads the OCSF alerts of a prefix with a Kafka client that is not ours and validates each with a validator that is
# not ours either: validate-ocsf.sh BOOTSTRAP PREFIX. The Python packages go into target/venv.
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
(($# == 2)) || die "usage: validate-ocsf.sh BOOTSTRAP PREFIX"

deploy/dev/needs.sh validate
venv=$root/target/venv
if ! cmp -s loadtest/requirements.txt "$venv/requirements.txt"; then
  say "installing the validator into target/venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r loadtest/requirements.txt
  cp loadtest/requirements.txt "$venv/requirements.txt"
fi
messages=$root/target/demo/alerts.ocsf.read.jsonl
mkdir -p "${messages%/*}"
"$venv/bin/python" loadtest/read_topic.py "$1" "$2.alerts.ocsf.v1" >"$messages"
"$venv/bin/python" loadtest/validate_ocsf.py "$messages"
