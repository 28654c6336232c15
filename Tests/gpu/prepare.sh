#!/usr/bin/env bash
# Packs what a GPU machine needs into one folder: the static binary, the fatbins, and which commit they are of.
# The folder is small enough to be carried; weights are made on the other side.
#   prepare.sh BINARY KERNELS FOLDER
set -euo pipefail

binary=$1
kernels=$2
folder=$3

if ! compgen -G "$kernels/*.fatbin" >/dev/null; then
    echo "gpu-check: no fatbin in $kernels; run make kernels" >&2
    exit 1
fi
rm -rf "$folder"
mkdir -p "$folder/kernels"
cp "$kernels"/*.fatbin "$folder/kernels/"
xz -3 --threads=2 --stdout "$binary" >"$folder/apus.xz"
{
    git rev-parse --short=12 HEAD 2>/dev/null || echo unknown
    # A measurement of files that no commit has says so.
    git diff --quiet HEAD -- Sources Models Kernels Package.swift 2>/dev/null || echo "and changes"
} | paste -s -d ' ' >"$folder/commit"
echo "gpu-check: $folder is $(du -sm "$folder" | cut -f 1) MB, of $(cat "$folder/commit")"
