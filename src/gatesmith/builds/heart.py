"""Says every second that its parent, a build, lives, until that ends or closes this one's standard input.

It is a process of its own: a solver's call may hold the build's interpreter, and all of its threads, for minutes.
"""

from __future__ import annotations

import select
import sys

__all__ = ["main"]

INTERVAL_S = 1.0


def main() -> None:
    """Beat."""
    while not select.select([sys.stdin], [], [], INTERVAL_S)[0]:
        sys.stderr.write('{"alive": true}\n')
        sys.stderr.flush()


if __name__ == "__main__":
    main()
