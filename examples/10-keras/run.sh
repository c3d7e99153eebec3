#!/usr/bin/env bash
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

TMPDIR="$work" python "$here/train.py" "$work" # PyTorch leaves a folder there
gatesmith build "$work/wine.keras" --board icebreaker --calibration "$work/samples.npz" --precision auto \
  --max-error 0.1 --out "$work/firmware"
gatesmith infer "$work/firmware" --input "$work/test.npy" --json >"$work/answers.json"

python - "$work" <<'CHECK'
import json, sys
from pathlib import Path
import numpy as np

folder = Path(sys.argv[1])
(output,) = json.loads((folder / "answers.json").read_text())["outputs"].values()
classes = np.array(output["data"]).reshape(output["shape"]).argmax(axis=1)
wanted = np.load(folder / "wanted.npz")
agreement, accuracy = np.mean(classes == wanted["classes"]), np.mean(classes == wanted["labels"])
print(f"{len(classes)} samples: agreement with Keras {agreement:.3f}, accuracy {accuracy:.3f}")
assert agreement >= 0.95
CHECK
