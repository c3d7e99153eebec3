#!/usr/bin/env bash
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

TMPDIR="$work" python -W ignore "$here/train_and_ask.py" # PyTorch leaves a folder there
