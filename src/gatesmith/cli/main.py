"""The command line: one file for each verb, joined here. A verb imports what is heavy when it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from gatesmith.cli import (
    boards,
    build,
    builds,
    copy,
    delete,
    demo,
    devices,
    doctor,
    estimate,
    explore,
    infer,
    inspect,
    kube,
    list_,
    pack,
    program,
    pull,
    push,
    remove,
    scan,
    serve,
    sign,
    tags,
    verify,
)
from gatesmith.cli.output import FAILED, silence_stdout, usage_error

__all__ = ["app", "main"]

app = typer.Typer(
    name="gatesmith",
    help="Deploy a trained model on an FPGA: build firmware with open tools, store it, serve it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
VERBS: dict[str, Callable[..., None]] = {
    "build": build.build,
    "estimate": estimate.estimate,
    "explore": explore.explore,
    "inspect": inspect.inspect,
    "verify": verify.verify,
    "pack": pack.pack,
    "list": list_.list_,
    "remove": remove.remove,
    "push": push.push,
    "pull": pull.pull,
    "copy": copy.copy,
    "tags": tags.tags,
    "delete": delete.delete,
    "sign": sign.sign,
    "scan": scan.scan,
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
app.add_typer(builds.builds, name="builds")
app.add_typer(kube.kube, name="kube")

# Typer carries its own click since 0.26 and exports few of its exceptions; this is the one above the exported one.
_WrongUsage: Any = typer.BadParameter.mro()[1]


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        from importlib.metadata import version as version_of

        print(f"gatesmith {version_of('gatesmith')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Entry point of the ``gatesmith`` program."""
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except _WrongUsage as error:
        usage_error(error.format_message())
    except BrokenPipeError:
        silence_stdout()
        status = FAILED
    sys.exit(status or 0)
