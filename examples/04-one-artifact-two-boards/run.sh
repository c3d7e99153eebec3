#!/usr/bin/env bash
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python "$here/../02-onnx-file/make_model.py" "$work"
for board in icebreaker ulx3s-85f; do
    gatesmith build "$work/iris.onnx" --board "$board" --calibration "$work/samples.npy" --out "$work/$board"
done
gatesmith pack "$work/icebreaker" "$work/ulx3s-85f" --tag example-boards:v1
gatesmith list
for board in icebreaker ulx3s-85f; do
    gatesmith infer example-boards:v1 --board "$board" --input "$work/test.npy" >"$work/$board.txt"
done
cmp "$work/icebreaker.txt" "$work/ulx3s-85f.txt"
head -c 200 "$work/icebreaker.txt"
echo " ... from both boards"
