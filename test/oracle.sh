#!/usr/bin/env bash
# Replays recorded conversations with etcd 3.7.1 against bin/etcd and fails on
# any answer that differs. Arguments: profiles (default: those that must pass).
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
profiles=${*:-kv txn lease watch maint}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd ../shared/oracle && go build -o "$work/oracle" .)
files=()
for p in $profiles; do files+=(../shared/oracle/corpus/"$p"-*.jsonl.gz); done
"$work/oracle" replay --show 5 --exec "$root/bin/etcd --data-dir {dir} --bcrypt-cost 4 \
  --listen-client-urls {client} --advertise-client-urls {client} \
  --listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --initial-cluster default={peer}" "${files[@]}"
