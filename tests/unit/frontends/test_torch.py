"""PyTorch models, from memory and from files, against PyTorch's own forward."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from torch import nn
from torch_models import Function, exported, filled, predicted, saved

from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends import read_model
from gatesmith.model import reference

F = nn.functional

FLAT, LINE, IMAGE = (6,), (4, 7), (4, 6, 8)


def of(function: Callable[..., Any], **parts: Any) -> Callable[[], Any]:
    return lambda: Function(function, **parts)


def turned(x: Any) -> Any:
    rows = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4)
    return rows.transpose(1, 2).contiguous().view(-1, 4, 6, 8)[:, 1:, ::2].flatten(1)


def chain(*layers: Any) -> Callable[[], Any]:
    return lambda: nn.Sequential(*layers)


MODELS: dict[str, tuple[tuple[int, ...], Callable[[], Any]]] = {
    "MLP": (FLAT, chain(nn.Linear(6, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3, bias=False))),
    "rows": (LINE, chain(nn.Linear(7, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 2))),
    "softmax": (FLAT, chain(nn.Linear(6, 4), nn.Softmax(dim=-1))),
    "Conv1d": (LINE, chain(nn.Conv1d(4, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv1d(6, 2, 2, dilation=2))),
    "Conv1d same": (LINE, chain(nn.Conv1d(4, 4, 3, padding="same", dilation=2, groups=2))),
    "Conv2d": (IMAGE, chain(nn.Conv2d(4, 3, (2, 3), stride=(2, 1), padding=(1, 0), bias=False), nn.ReLU())),
    "Conv2d dilated": (IMAGE, chain(nn.Conv2d(4, 6, 3, dilation=(1, 2), groups=2, padding="valid"))),
    "depthwise": (IMAGE, chain(nn.Conv2d(4, 8, 3, groups=4, padding=1), nn.ReLU6(), nn.Conv2d(8, 3, 1))),
    "BatchNorm1d": (FLAT, chain(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU())),
    "BatchNorm1d of rows": (LINE, chain(nn.BatchNorm1d(4, affine=False))),
    "BatchNorm2d": (IMAGE, chain(nn.Conv2d(4, 3, 2), nn.BatchNorm2d(3, eps=0.1), nn.ReLU())),
    "MaxPool1d": (LINE, chain(nn.MaxPool1d(3, stride=2, padding=1, ceil_mode=True))),
    "MaxPool2d": (IMAGE, chain(nn.MaxPool2d((2, 3)), nn.MaxPool2d(2, stride=1, padding=1))),
    "AvgPool1d": (LINE, chain(nn.AvgPool1d(3, stride=2, padding=1))),
    "AvgPool2d": (IMAGE, chain(nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False, ceil_mode=True))),
    "AvgPool2d divisor": (IMAGE, chain(nn.AvgPool2d(2, divisor_override=3))),
    "AdaptiveAvgPool2d": (IMAGE, chain(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))),
    "AdaptiveAvgPool2d parts": (IMAGE, chain(nn.AdaptiveAvgPool2d((3, 2)))),
    "AdaptiveAvgPool1d": (LINE, chain(nn.AdaptiveAvgPool1d(1))),
    "AdaptiveMaxPool2d": (IMAGE, chain(nn.AdaptiveMaxPool2d((2, 4)))),
    "residual": (
        IMAGE,
        of(lambda m, x: F.relu(m.b(F.relu(m.a(x))) + x), a=nn.Conv2d(4, 4, 3, padding=1), b=nn.Conv2d(4, 4, 1)),
    ),
    "mean": (IMAGE, of(lambda m, x: x.mean(dim=(2, 3)) + x.mean((-1, -2), keepdim=True).flatten(1))),
    "sum and amax": (
        IMAGE,
        of(lambda m, x: x.sum(1, keepdim=True) - x.amax((1, 3), keepdim=True) + x.amin(1, keepdim=True)),
    ),
    "max": (LINE, of(lambda m, x: x.max(dim=2).values)),
    "argmax": (FLAT, of(lambda m, x: m.l(x).softmax(1).argmax(1), l=nn.Linear(6, 4))),
    "argmax kept": (FLAT, of(lambda m, x: x.argmax(dim=-1, keepdim=True))),
    "views": (IMAGE, of(lambda m, x: turned(x))),
    "squeeze": (IMAGE, of(lambda m, x: x[:, :1].squeeze(1).unsqueeze(-1).unsqueeze(1).squeeze((1, -1)))),
    "unflatten": (LINE, of(lambda m, x: x.unflatten(1, (2, 2)).movedim(1, 3).select(2, 1).narrow(1, 0, 2))),
    "cat": (LINE, of(lambda m, x: torch.cat([x, x * 2, x[:, :1] - 1], dim=1))),
    "stack": (LINE, of(lambda m, x: torch.stack([x[:, 0], x[:, -1]], dim=-1))),
    "parts": (LINE, of(lambda m, x: [*x.split(3, dim=2), *x.chunk(3, dim=1), *x.unbind(1), *x.split([1, 3], dim=1)])),
    "pads": (IMAGE, of(lambda m, x: F.pad(F.pad(x, (1, 2, 0, -1), value=2.5), (1, 1, 2, 0), mode="reflect"))),
    "pads of lines": (LINE, of(lambda m, x: F.pad(F.pad(x, (1, 2), mode="replicate"), (1, 0), mode="circular"))),
    "expand": (IMAGE, of(lambda m, x: x[:, :, :1].expand(-1, -1, 6, 8) + x.flip(3).repeat(1, 1, 1, 1))),
    "shuffle": (IMAGE, chain(nn.PixelShuffle(2), nn.Conv2d(1, 1, 3))),
    "channels": (IMAGE, of(lambda m, x: x.index_select(1, m.order), order=torch.tensor([3, 1, 0]))),
    "constants": (
        LINE,
        of(lambda m, x: (2 - (x + m.k) * 3 - m.k) / 4 - x.sub(m.k, alpha=2).neg(), k=torch.arange(7.0)),
    ),
    "constants of constants": (
        LINE,
        of(
            lambda m, x: x * (m.k.abs() + 1).sqrt().rsqrt() + torch.exp(m.k).reciprocal().view(1, -1),
            k=torch.arange(7.0),
        ),
    ),
    "widened": (LINE, of(lambda m, x: x[:, :1] + m.k + x, k=torch.arange(28.0).reshape(1, 4, 7))),
    "two data": (LINE, of(lambda m, x: torch.maximum(x, x.flip(1)) - torch.minimum(x, x[:, :1]))),
    "matmul": (LINE, of(lambda m, x: m.left @ (x @ m.right), left=torch.rand(3, 4), right=torch.rand(7, 5))),
    "addmm": (FLAT, of(lambda m, x: torch.addmm(m.b, x, m.w, beta=0.5, alpha=2), b=torch.rand(5), w=torch.rand(6, 5))),
    "square": (FLAT, of(lambda m, x: x**2 + x * x - torch.square(x))),
    "PReLU": (IMAGE, chain(nn.PReLU(4), nn.PReLU())),
    "double": (FLAT, of(lambda m, x: m.l(x.double()).float(), l=nn.Linear(6, 2).double())),
    "half": (FLAT, of(lambda m, x: x + m.k.float(), k=torch.rand(6).bfloat16())),
    "in place": (FLAT, of(lambda m, x: m.l(x).relu_().mul_(2).clamp_(max=1.5), l=nn.Linear(6, 4))),
    "weight norm": (
        FLAT,
        of(lambda m, x: F.linear(x, m.v * m.g / m.v.pow(2)), v=torch.rand(3, 6) + 1, g=torch.rand(3, 1)),
    ),
    **{
        f"activation {make}": (FLAT, chain(nn.Linear(6, 5), make, nn.Linear(5, 2)))
        for make in (
            nn.ReLU6(),
            nn.LeakyReLU(0.2),
            nn.Hardtanh(-0.5, 0.75),
            nn.Sigmoid(),
            nn.Tanh(),
            nn.Hardsigmoid(),
            nn.Hardswish(),
            nn.SiLU(),
            nn.GELU(),
            nn.GELU(approximate="tanh"),
            nn.ELU(),
            nn.ELU(0.5),
            nn.CELU(2.0),
            nn.SELU(),
            nn.Softplus(),
            nn.Softplus(2.0),
            nn.Softsign(),
            nn.Mish(),
            nn.LogSigmoid(),
            nn.Tanhshrink(),
            nn.Identity(),
        )
    },
}


def leaves(found: Any) -> list[Any]:
    return (
        list(found.values()) if isinstance(found, dict) else list(found) if isinstance(found, list | tuple) else [found]
    )


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, tmp_path: Path) -> None:
    shape, make = MODELS[name]
    module = filled(make())
    x = np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)
    wanted = leaves(predicted(module, x))
    program = exported(module, torch.zeros(2, *shape))
    path = saved(program, tmp_path / "m.pt2")
    graphs = [read_model(source, name="m") for source in (program, path, (module, torch.zeros(1, *shape)))]
    for graph in graphs:
        found = list(reference.infer_real(graph, {graph.inputs[0].edge.name: x}).values())
        if graph.outputs[0].host:
            wanted = [wanted[0]]
        assert len(found) == len(wanted)
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours.shape == theirs.shape
            assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert graphs[0].to_bytes() == graphs[1].to_bytes() == graphs[2].to_bytes()


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The archive with other bytes in its members."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def test_a_planted_pickle_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    evil = pickle.dumps(Planted(mark))
    joblib.load(BytesIO(evil))
    assert mark.exists(), "the plant works"
    mark.unlink()
    good = saved(exported(filled(nn.Linear(6, 2)), torch.zeros(2, 6)), tmp_path / "m.pt2")

    def samples(name: str, content: bytes) -> bytes:
        return evil if "sample_inputs" in name else content

    assert read_model(rewritten(good, tmp_path / "a.pt2", samples)).inputs[0].edge.shape == (6,)

    def weights(name: str, content: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            config = json.loads(content)
            next(iter(config["config"].values()))["use_pickle"] = True
            return json.dumps(config).encode()
        return evil if "/weight_" in name else content

    with pytest.raises(ModelUnreadable, match="as a pickle, and reading one runs the code in it"):
        read_model(rewritten(good, tmp_path / "b.pt2", weights), trust_pickle=True)
    torch.save({"w": torch.zeros(2)}, tmp_path / "c.pt")
    with pytest.raises(ModelUnreadable, match=r"save torch.export.export\(model, inputs\) with torch.export.save"):
        read_model(tmp_path / "c.pt", trust_pickle=True)
    assert not mark.exists()


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "operator": (of(lambda m, x: x.sin()), r"\(aten.sin.default\) is not supported; supported are "),
    "softmax inside": (of(lambda m, x: x.softmax(1) * 2), "reads the softmax .*, it must be last|it must be last"),
    "the batch": (of(lambda m, x: x - x.flip(0)), "moves numbers from one sample to another"),
    "two data": (of(lambda m, x: x * x.flip(1)), "multiplies two values that both depend on the data"),
    "seen in place": (
        of(lambda m, x: (h := x + 1).view(-1, 2, 3).relu_().flatten(1) + h),
        "in place, which is read as",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(UnsupportedOperation, match=words):
        read_model((make(), torch.zeros(1, 6)))


def test_a_module_that_does_not_tell_its_inputs() -> None:
    with pytest.raises(UnsupportedOperation, match=r"with example inputs, as in read_model\(\(module, "):
        read_model(nn.Sequential(nn.Conv2d(1, 2, 3)))
    module = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5)).train()
    assert read_model(module).inputs[0].edge.shape == (6,)
    assert all(part.training for part in module.modules()), "the module is left as it was"
