"""PyTorch's quantised models and several inputs against PyTorch itself, and files that are damaged."""

from __future__ import annotations

import json
import random
import time
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch_models import exported, filled, saved

from gatesmith.errors import ModelError, ModelUnreadable
from gatesmith.frontends import read_model
from gatesmith.model import reference
from gatesmith.quantize import quantize

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch.ao.quantization.fx._decomposed  # registers the operators

QD = torch.ops.quantized_decomposed


class Quantized(nn.Module):
    """What PyTorch's quantisation of exported programs leaves: rounded data, whole weights with scales."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("bias", torch.randn(3))
        self.register_buffer("weight", torch.randint(-8, 8, (3, 4), dtype=torch.int8))
        self.register_buffer("scale", torch.tensor([0.03, 0.05, 0.02]))
        self.register_buffer("zero", torch.zeros(3, dtype=torch.int64))

    def forward(self, x: Any) -> Any:
        whole = (0.1, 3, -128, 127, torch.int8)
        x = QD.dequantize_per_tensor(QD.quantize_per_tensor(x, *whole), *whole)
        weight = QD.dequantize_per_channel(self.weight, self.scale, self.zero, 0, -128, 127, torch.int8)
        y = torch.relu(nn.functional.linear(x, weight, self.bias))
        last = (0.05, 0, 0, 255, torch.uint8)
        return QD.dequantize_per_tensor(QD.quantize_per_tensor(y, *last), *last)


def test_a_quantised_program_loses_nothing() -> None:
    module, x = Quantized().eval(), torch.tensor(np.random.default_rng(0).normal(size=(500, 4)), dtype=torch.float32)
    graph = read_model((module, (x[:4],)))
    (name,), wanted = (t.edge.name for t in graph.inputs), module(x).numpy()
    (given,) = reference.infer_real(graph, {name: x.numpy()}).values()
    assert np.abs(given - wanted).max() < 1e-6
    integer, _ = quantize(graph, x[:100].numpy())
    (exact,) = reference.infer_real(integer, {name: x.numpy()}).values()
    assert np.abs(exact - given).max() < 1e-12


class Two(nn.Module):
    """Two inputs, and outputs with names."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, a: Any, b: Any) -> Any:
        total = self.left(a) + torch.tanh(self.right(b))
        return {"total": total, "both": torch.cat([total, b], dim=1)}


def test_inputs_and_outputs_have_their_names() -> None:
    module = filled(Two())
    generator = np.random.default_rng(1)
    x = {name: generator.normal(size=(5, size)).astype(np.float32) for name, size in (("a", 4), ("b", 2))}
    graph = read_model((module, (torch.tensor(x["a"]), torch.tensor(x["b"]))))
    given = reference.infer_real(graph, x)
    wanted = module(*(torch.tensor(values) for values in x.values()))
    assert {*given} == {*wanted}
    for name, values in wanted.items():
        assert np.allclose(given[name], values.detach().numpy(), atol=1e-5), name


def test_damaged_files(tmp_path: Path) -> None:
    module = filled(nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3)))
    whole = saved(exported(module, torch.zeros(3, 1, 4, 4)), tmp_path / "whole.pt2").read_bytes()
    chance, path = random.Random(0), tmp_path / "m.pt2"
    for _ in range(300):
        data = bytearray(whole)
        if chance.random() < 0.3:
            data = data[: chance.randrange(len(data))]
        else:
            for _ in range(chance.choice([1, 4, 30])):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(data))
        start = time.process_time()
        with suppress(ModelError):  # nothing else may come out of it
            read_model(path)
        assert time.process_time() - start < 5


def test_a_program_that_does_not_say_how_it_is_called(tmp_path: Path) -> None:
    whole = saved(exported(filled(nn.Linear(4, 2)), torch.zeros(3, 4)), tmp_path / "whole.pt2")
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(tmp_path / "m.pt2", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if "models/" in name and name.endswith(".json"):
                program = json.loads(data)
                program["graph_module"]["module_call_graph"] = []
                data = json.dumps(program).encode()
            new.writestr(name, data)
    with pytest.raises(ModelUnreadable, match="is not a whole PyTorch model: StopIteration"):
        read_model(tmp_path / "m.pt2")


@pytest.mark.parametrize("other", [b"PK\x03\x04", b"PK\x05\x06" + b"\0" * 17])
def test_archives_that_hold_nothing(other: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(other)
    with pytest.raises(ModelError):
        read_model(path)
