"""The command line: one file for each verb, joined here. A verb imports what is heavy when it runs."""

from __future__ import annotations

from collections.abc import Callable

import typer

from gatesmith.cli import (
    boards,
    build,
    demo,
    devices,
    doctor,
    infer,
    inspect,
    list_,
    pack,
    program,
    remove,
    serve,
    verify,
)

__all__ = ["app", "main"]

app = typer.Typer(
    name="gatesmith",
    help="Deploy a trained model on an FPGA: build firmware with open tools, store it, serve it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
VERBS: dict[str, Callable[..., None]] = {
    "build": build.build,
    "inspect": inspect.inspect,
    "verify": verify.verify,
    "pack": pack.pack,
    "list": list_.list_,
    "remove": remove.remove,
    "boards": boards.boards,
    "devices": devices.devices,
    "program": program.program,
    "infer": infer.infer,
    "serve": serve.serve,
    "doctor": doctor.doctor,
    "demo": demo.demo,
}
for verb, function in VERBS.items():
    app.command(verb)(function)


def main() -> None:
    """Entry point of the ``gatesmith`` program."""
    app()
