"""A design in, a bitstream and a report out: :func:`plan` writes a build down, :func:`execute` runs it.

Everything is named by digests of its inputs and of the programs, so a build that ran before is read, not run.
"""

from gatesmith.toolchain.build import Products, Stage, Synthesis, elaborate, execute, synthesize
from gatesmith.toolchain.planning import BuildPlan, Command, plan
from gatesmith.toolchain.warm import warm_up

__all__ = [
    "BuildPlan",
    "Command",
    "Products",
    "Stage",
    "Synthesis",
    "elaborate",
    "execute",
    "plan",
    "synthesize",
    "warm_up",
]
