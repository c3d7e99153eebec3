#!/usr/bin/env bash
# Sets everything up: system packages where that is allowed, .venv, the package with its extras, warm tools.
# Runs again only when pyproject.toml or this file changed.
set -euo pipefail
cd "$(dirname "$0")/.."

needed="g++ fpga-icestorm iproute2 openssl skopeo libusb-1.0-0 libftdi1-2"
stamp=.venv/.set-up
wanted=$(cat pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1)
[ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ] && exit 0

python=""
for candidate in python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "error: Python 3.11 to 3.14 is needed; install one, for example: apt-get install python3 python3-venv" >&2
    exit 1
fi

missing=""
if command -v dpkg-query >/dev/null; then
    for package in $needed; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    # a virtual environment needs ensurepip, which Debian packages apart
    "$python" -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
fi
if [ -n "$missing" ]; then
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        if sudo -n true 2>/dev/null; then as_root="sudo -n"; else as_root="no"; fi
    fi
    if [ "$as_root" = "no" ]; then
        echo "these packages are missing; install them with: sudo apt-get install$missing" >&2
    else
        echo "installing$missing" >&2
        export DEBIAN_FRONTEND=noninteractive
        if ! { $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $missing; } >&2; then
            echo "could not install them; install them with: apt-get install$missing" >&2
        fi
    fi
fi
if ! command -v g++ >/dev/null; then
    echo "error: g++ is needed for emulated boards; install it with: apt-get install g++" >&2
    exit 1
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv

# The tests want docker-registry's program alone: its package would also start a service, so it is only unpacked.
if ! [ -x .venv/bin/docker-registry ] && ! command -v docker-registry >/dev/null && command -v apt-get >/dev/null; then
    unpacked=$(mktemp -d)
    if (cd "$unpacked" && { apt-get download -qq docker-registry || { ${as_root:-} apt-get update -qq &&
        apt-get download -qq docker-registry; }; } && dpkg-deb --extract docker-registry_*.deb .) >/dev/null 2>&1; then
        install "$unpacked/usr/bin/docker-registry" .venv/bin/docker-registry
    else
        echo "could not get docker-registry; tests that need it are skipped" >&2
    fi
    rm -rf "$unpacked"
fi

.venv/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
.venv/bin/python -m pip install --quiet --editable '.[all]' --group dev
if ! [ -x .venv/bin/helm ] && ! command -v helm >/dev/null; then
    .venv/bin/python scripts/unpack_kubernetes_tools.py .venv/bin >/dev/null 2>&1 ||
        echo "could not get helm and kubectl; tests that need them are skipped" >&2
fi
.venv/bin/gatesmith doctor >&2
echo "$wanted" >"$stamp"
