#!/usr/bin/env bash
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python "$here/make_model.py" "$work"
gatesmith build "$work/iris.onnx" --board icebreaker --calibration "$work/samples.npy" --tag example-onnx:v1
gatesmith verify example-onnx:v1 --samples 2000
gatesmith inspect example-onnx:v1
gatesmith infer example-onnx:v1 --input "$work/test.npy" --json >"$work/answers.json"

python - "$work" <<'CHECK'
import json, sys
from pathlib import Path
import numpy as np

folder = Path(sys.argv[1])
given = np.array(json.loads((folder / "answers.json").read_text())["outputs"]["probabilities"]["data"])
wanted = np.load(folder / "wanted.npy")
agreement = np.mean(given.argmax(axis=1) == wanted.argmax(axis=1))
print(f"{len(given)} samples: agreement with the float model {agreement:.3f}")
assert given.shape == wanted.shape
assert agreement >= 0.95
CHECK
