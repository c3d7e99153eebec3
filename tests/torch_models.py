"""PyTorch modules whose weights are all different, and what PyTorch itself computes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["Function", "exported", "filled", "predicted", "saved"]


class Function(nn.Module):
    """A module that is a function; other modules in it by keyword."""

    def __init__(self, function: Any, **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


def filled(module: Any) -> Any:
    """Weights that are all different, variances positive; in eval mode."""
    generator = np.random.default_rng(3)
    for name, values in module.state_dict().items():
        if values.is_floating_point() and "scale" not in name:
            made = generator.normal(size=values.shape) * 0.7
            values.copy_(torch.tensor(np.abs(made) + 0.5 if "var" in name else made))
    return module.eval()


def exported(module: Any, *examples: Any, free: bool = True) -> Any:
    """A program with a free batch, or the batch of the examples."""
    shapes = tuple({0: torch.export.Dim.AUTO} for _ in examples) if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(module, examples, dynamic_shapes=shapes)


def saved(program: Any, path: Any) -> Any:
    """The file of a program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
    return path


def predicted(module: Any, *inputs: Any) -> Any:
    """What PyTorch itself computes, as it gives it out, in numpy."""
    with torch.no_grad():
        found = module(*(torch.tensor(x) for x in inputs))
    return torch.utils._pytree.tree_map(lambda y: y.numpy(), found)
