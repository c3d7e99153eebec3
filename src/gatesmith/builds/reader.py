"""Reads a stranger's model in a process without rights: ``reader.py MODEL GRAPH NAME MEMORY SECONDS``.

The model's float graph is all that leaves it. Pickles are not read: there is nobody here who could vouch for one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gatesmith.builds.confine import confine
from gatesmith.builds.job import error_json, say
from gatesmith.errors import GatesmithError, ModelUnreadable

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Read a model file and write its graph."""
    model, graph, name, memory_bytes, seconds = arguments
    say({"holds": confine(memory_bytes=int(memory_bytes), seconds=int(seconds))})
    from gatesmith.frontends import read_model

    try:
        Path(graph).write_bytes(read_model(Path(model), name=name).to_bytes())
    except GatesmithError as error:
        say({"error": error_json(error)})
        return 1
    except MemoryError:
        say({"error": error_json(ModelUnreadable(f"model needs more than {memory_bytes} bytes of memory to be read"))})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
