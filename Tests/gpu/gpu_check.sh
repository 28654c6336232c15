#!/usr/bin/env bash
# Checks and measures Apus on a machine with an NVIDIA GPU, from what `make gpu-check` packed into .gpu. Needs the
# driver and Python 3; with PyTorch the kernels are timed beside torch's, with compute-sanitizer they run under it.
#
# Every stage has a time limit and leaves its own file in $OUT, so whatever ends the script keeps what was found. What
# is most worth knowing comes first. Exits 1 when a stage failed.
#   OUT=gpu-out LIMIT=590 DEVICE=cuda bash Tests/gpu/gpu_check.sh [stage …]
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
packed=${PACKED:-$root/.gpu}
OUT=${OUT:-$root/gpu-out}
# Seconds for everything, and a GPU as --device names it: cuda, cuda:1 or a UUID.
LIMIT=${LIMIT:-590}
DEVICE=${DEVICE:-cuda}
chosen=("$@")
failures=0
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$PATH:/usr/local/cuda/bin
# Numbers of another sitting must not stand beside this one's, unless a stage is repeated on purpose.
if [ ${#chosen[@]} -eq 0 ]; then rm -f "$OUT"/*.jsonl "$OUT"/*.log "$OUT"/*.txt; fi
: >"$OUT/stages.jsonl"

unpack() {
    if [ ! -e "$packed/apus.xz" ]; then
        echo "gpu-check: there is no $packed/apus.xz; run make gpu-check where Swift is" >&2
        exit 1
    fi
    if command -v xz >/dev/null; then
        xz --decompress --stdout "$packed/apus.xz" >"$work/apus"
    else
        python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' \
            "$packed/apus.xz" >"$work/apus"
    fi
    chmod +x "$work/apus"
    # Beside the binary is where it looks first.
    cp -r "$packed/kernels" "$work/kernels"
    if ! "$work/apus" --version >"$OUT/version.txt" 2>"$OUT/version.log"; then
        cat "$OUT/version.log" >&2
        echo "gpu-check: the binary does not run here" >&2
        exit 1
    fi
}

is_chosen() { [ ${#chosen[@]} -eq 0 ] || [[ " ${chosen[*]} " == *" $1 "* ]]; }

# stage NAME SECONDS COMMAND …: standard output becomes NAME.jsonl, standard error NAME.log.
stage() {
    local name=$1 seconds=$2
    shift 2
    if ! is_chosen "$name"; then return; fi
    local left=$((LIMIT - SECONDS)) start=$SECONDS status=0 outcome
    if [ "$left" -lt 5 ]; then
        outcome="skipped: no time left"
    else
        if [ "$seconds" -gt "$left" ]; then seconds=$left; fi
        # Line by line, so that a stage that is stopped has written what it knew.
        timeout --kill-after=3 "$seconds" stdbuf -oL "$@" >"$OUT/$name.jsonl" 2>"$OUT/$name.log" || status=$?
        case $status in
            0) outcome="passed" ;;
            124 | 137) outcome="stopped after $seconds s" ;;
            *) outcome="failed ($status)" ;;
        esac
    fi
    if [ "$outcome" != passed ]; then failures=$((failures + 1)); fi
    printf '{"stage": "%s", "outcome": "%s", "seconds": %d}\n' "$name" "$outcome" $((SECONDS - start)) \
        >>"$OUT/stages.jsonl"
    printf '%-12s %4d s  %s\n' "$name" $((SECONDS - start)) "$outcome"
    if [ "$outcome" != passed ] && [ -s "$OUT/$name.log" ]; then tail -n 15 "$OUT/$name.log" | sed 's/^/    /'; fi
}

sanitizer() {
    local tool=$1 seconds=$2
    if ! command -v compute-sanitizer >/dev/null; then
        if ! is_chosen "$tool"; then return; fi
        printf '{"stage": "%s", "outcome": "skipped: no compute-sanitizer", "seconds": 0}\n' "$tool" \
            >>"$OUT/stages.jsonl"
        return
    fi
    stage "$tool" "$seconds" compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 \
        --log-file "$OUT/$tool.txt" "$work/apus" verify --device "$DEVICE" --small --json
}

bench() {
    local name=$1 seconds=$2
    stage "$name" "$seconds" "$work/apus" bench --device "$DEVICE" --load-format dummy --model-shape "$name" \
        --workloads decode-1,decode-16,decode-64,decode-256 --repeats 3 --json
}

unpack
stage facts 20 python3 "$here/facts.py" "$packed/commit" "$OUT/version.txt"
stage verify 110 "$work/apus" verify --device "$DEVICE" --json
stage kernels 80 "$work/apus" bench kernels --device "$DEVICE" --json
# The same cases with the kernels for compute capability 8.0, and without overlap: what those for 9.0 are worth.
stage kernels-sm80 60 "$work/apus" bench kernels --device "$DEVICE" --cuda-kernels sm80 --json
stage verify-sm80 60 "$work/apus" verify --device "$DEVICE" --cuda-kernels sm80 --small --json
# Ranks that share this GPU, and groups of one through the library and the kernels that several GPUs would use.
stage ranks-2 30 "$work/apus" verify --device "$DEVICE" --ranks 2 --json
stage ranks-4 30 "$work/apus" verify --device "$DEVICE" --ranks 4 --json
stage peers 70 python3 "$here/peers.py" "$OUT/kernels.jsonl"
bench llama-3.2-1b 60
bench llama-3.1-8b 110
stage sequential 60 "$work/apus" bench --device "$DEVICE" --cuda-kernels sequential --load-format dummy \
    --model-shape llama-3.1-8b --workloads decode-1 --repeats 3 --json
sanitizer memcheck 40
sanitizer racecheck 40
python3 "$here/table.py" "$OUT" >"$OUT/tables.md" || failures=$((failures + 1))
cat "$OUT/tables.md"
echo "gpu-check: $failures stages did not pass; everything is in $OUT"
[ "$failures" -eq 0 ]
