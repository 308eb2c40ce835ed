#!/usr/bin/env bash
# Replays recorded command lines against bin/ (see test/golden). GOLDEN_EXEC
# replaces the server's command; arguments replace the scenarios.
set -eu
cd "$(dirname "$0")/.."
records=../shared/reference/cli
if [ ! -d "$records" ]; then
    echo "golden: $records is not here; nothing to replay"
    exit 0
fi
[ $# -gt 0 ] || set -- "$records"/{kv,txn,watch,lease,maintenance,auth,concurrency,etcdutl}.jsonl
go build -o bin/golden-replay ./test/golden
run=(bin/golden-replay --bin bin)
[ -z "${GOLDEN_EXEC:-}" ] || run+=(--exec "$GOLDEN_EXEC")

# The recorded addresses are the default ports; a network of our own keeps
# them free.
if unshare -rn true 2>/dev/null; then
    exec unshare -rn sh -c 'ip link set lo up 2>/dev/null || ifconfig lo up; exec "$@"' sh "${run[@]}" "$@"
fi
exec "${run[@]}" "$@"
