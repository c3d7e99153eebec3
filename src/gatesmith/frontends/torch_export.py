"""A PyTorch model in memory as the bytes of a ``.pt2`` file; the only module of the frontend that imports PyTorch.

A module is exported in eval mode with a free batch. Sizes of 0 and 1 are special in PyTorch, so that example inputs
with one sample are repeated; a model that fixes its batch is exported as it is called.
"""
# Ref: PyTorch API: torch.export.export: sizes 0 and 1 are never dynamic

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gatesmith.errors import NotInstalled, UnsupportedOperation
from gatesmith.frontends.reading import words

__all__ = ["archive_of"]

HOW = "read_model((module, (torch.zeros(1, 3, 32, 32),)))"


def archive_of(source: Any) -> bytes:
    """Save an exported program, a module, or a module with its example inputs.

    Raises
    ------
    UnsupportedOperation
        When example inputs are needed, or PyTorch cannot export the module.
    """
    try:
        import torch
        from torch.export import ExportedProgram
    except ImportError as error:  # pragma: no cover - who has such an object has PyTorch
        raise NotInstalled("PyTorch", "pip install 'gatesmith[torch]'") from error
    if isinstance(source, ExportedProgram):
        program = source
    elif isinstance(source, tuple):
        program = _exported(torch, source[0], source[1])
    else:
        program = _exported(torch, source, (torch.zeros(2, _features(torch, source)),))
    buffer = io.BytesIO()
    try:
        with _quiet():
            torch.export.save(program, buffer)
    except Exception as error:
        raise UnsupportedOperation(f"PyTorch cannot save the exported program: {words(error)}") from error
    return buffer.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without PyTorch's warnings of its own deprecated parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _features(torch: Any, module: Any) -> int:
    """Numbers of a sample for a chain that starts with a linear layer."""
    first = module
    while isinstance(first, torch.nn.Sequential) and len(first):
        first = first[0]
    if isinstance(first, torch.nn.Linear) and (first is module or isinstance(module, torch.nn.Sequential)):
        return int(first.in_features)
    raise UnsupportedOperation(
        f"a module of {type(module).__name__} does not tell the shape of its inputs; give it with example inputs, as "
        f"in {HOW}"
    )


def _exported(torch: Any, module: Any, examples: Any) -> Any:
    inputs = examples if isinstance(examples, tuple | list | dict) else (examples,)
    arguments, named = ((), dict(inputs)) if isinstance(inputs, dict) else (tuple(inputs), {})
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with _quiet(), torch.no_grad():
            return _attempts(torch, module, arguments, named)
    finally:
        for part, mode in modes:
            part.training = mode


def _attempts(torch: Any, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    tree_map = torch.utils._pytree.tree_map
    free = torch.export.Dim.AUTO

    def repeated(x: Any) -> Any:
        return torch.cat([x, x]) if isinstance(x, torch.Tensor) and x.ndim and len(x) == 1 else x

    def dimensions(x: Any) -> Any:
        return {0: free} if isinstance(x, torch.Tensor) and x.ndim else None

    several, shapes = tree_map(repeated, (arguments, named)), tree_map(dimensions, (arguments, named))
    try:
        return torch.export.export(module, several[0], several[1], dynamic_shapes=shapes[1] or shapes[0])
    except Exception:  # a model that fixes its batch
        try:
            return torch.export.export(module, arguments, named)
        except Exception as error:
            raise UnsupportedOperation(f"PyTorch cannot export the module: {words(error)}") from error
