"""How long a large model takes to be read, and how much memory: files of some 50 MB, each in a process of its own.

``times_file`` is the peak of the process's memory above what it had after reading a tiny model of the same kind, which
imports all that is needed, as a multiple of the file's size. The models are random or overfitted: only sizes matter.

    python bench/import_size.py [--keep FOLDER] [MODEL...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

MEGABYTES = 50
TARGETS = {"seconds": 10.0, "times_file": 4.0}
SAMPLES, FEATURES = 20_000, 24
RESET = b"5"
"""Written to clear_refs, it makes the peak start again."""


def onnx_chain(path: Path, shape: list[int], layers: list[tuple[str, list[tuple[int, ...]]]]) -> None:
    """Operators one after the other, each with its weights."""
    from onnx import TensorProto, helper, numpy_helper, save

    generator, nodes, weights, name = np.random.default_rng(0), [], [], "x"
    for place, (operator, shapes) in enumerate(layers):
        used = [name]
        for number, each in enumerate(shapes):
            used.append(f"weight{place}_{number}")
            values = generator.standard_normal(each, dtype=np.float32) / 30
            weights.append(numpy_helper.from_array(values, used[-1]))
        name = f"y{place}"
        options = {"pads": [1, 1, 1, 1]} if operator == "Conv" else {}
        nodes.append(helper.make_node(operator, used, [name], **options))
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])
    given = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "chain", [taken], [given], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def onnx_mlp(path: Path, size: float) -> None:
    """Three products."""
    wide = max(8, int(2560 * size**0.5))
    sizes = [wide, wide, wide, 10]
    gemms = [("Gemm", [(a, b), (b,)]) for a, b in pairwise(sizes)]
    onnx_chain(path, [wide], [gemms[0], ("Relu", []), gemms[1], ("Relu", []), gemms[2]])


def onnx_cnn(path: Path, size: float) -> None:
    """Five convolutions, and little to slide over."""
    wide = max(2, int(540 * size**0.5))
    conv = ("Conv", [(wide, wide, 3, 3), (wide,)])
    end = [("GlobalAveragePool", []), ("Flatten", []), ("Gemm", [(wide, 10), (10,)])]
    onnx_chain(path, [wide, 4, 4], [*[conv, ("Relu", [])] * 5, *end])


def keras_mlp(path: Path, size: float) -> None:
    """As Keras writes it."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    wide = max(8, int(2560 * size**0.5))
    layers = [keras.layers.Dense(wide, activation="relu") for _ in range(2)]
    keras.Sequential([keras.Input((wide,)), *layers, keras.layers.Dense(10)]).save(path)


def torch_mlp(path: Path, size: float) -> None:
    """An exported module."""
    import torch

    wide = max(8, int(2560 * size**0.5))
    first, second, last = (torch.nn.Linear(a, b) for a, b in ((wide, wide), (wide, wide), (wide, 10)))
    module = torch.nn.Sequential(first, torch.nn.ReLU(), second, torch.nn.ReLU(), last)
    torch.export.save(torch.export.export(module, (torch.zeros(2, wide),)), path)


def skops_mlp(path: Path, size: float) -> None:
    """A network with weights in float64."""
    import skops.io
    from sklearn.neural_network import MLPRegressor

    sizes = [max(8, int(1800 * size**0.5))] * 3 + [1]
    generator = np.random.default_rng(0)
    x = generator.normal(size=(20, sizes[0]))
    network = MLPRegressor(hidden_layer_sizes=(2, 2), solver="lbfgs", max_iter=1).fit(x, x[:, 0])
    network.set_params(hidden_layer_sizes=tuple(sizes[1:-1]))
    network.coefs_ = [generator.normal(size=pair) / 50 for pair in pairwise(sizes)]
    network.intercepts_ = [np.zeros(n) for n in sizes[1:]]
    skops.io.dump(network, path)


def noise() -> tuple[Any, Any]:
    """Nothing to learn, so trees grow as far as they may."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(SAMPLES, FEATURES)).astype(np.float32), generator.normal(size=SAMPLES)


def xgboost_trees(path: Path, size: float) -> None:
    """One tree of 8,000 leaves many times, in the form that the file's name asks for."""
    import xgboost

    options = {"max_depth": 0, "max_leaves": 8000, "grow_policy": "lossguide", "min_child_weight": 0, "n_jobs": 1}
    booster = xgboost.XGBRegressor(n_estimators=1, **options).fit(*noise()).get_booster()
    text = json.loads(bytes(booster.save_raw("json")))
    model = text["learner"]["gradient_booster"]["model"]
    (tree,), trees = model["trees"], max(1, int((92 if path.suffix == ".ubj" else 60) * size))
    model["trees"] = [{**tree, "id": place} for place in range(trees)]
    model["tree_info"], model["iteration_indptr"] = [0] * trees, list(range(trees + 1))
    model["gbtree_model_param"]["num_trees"] = str(trees)
    booster.load_model(bytearray(json.dumps(text).encode()))
    booster.save_model(path)


def lightgbm_trees(path: Path, size: float) -> None:
    """One tree of 4,000 leaves many times."""
    import lightgbm

    options = {"num_leaves": 4000, "min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0, "verbose": -1, "num_threads": 1}
    text = lightgbm.train(options, lightgbm.Dataset(*noise()), 1).model_to_string()
    head, _, rest = text.partition("Tree=0\n")
    tree, end, tail = rest.partition("end of trees")
    trees = [f"Tree={place}\n{tree}" for place in range(max(1, int(130 * size)))]
    (sizes,) = (line for line in head.splitlines() if line.startswith("tree_sizes="))
    head = head.replace(sizes, "tree_sizes=" + " ".join(str(len(each)) for each in trees))
    path.write_text(head + "".join(trees) + end + tail)


def catboost_trees(path: Path, size: float) -> None:
    """Symmetric trees of depth 10."""
    import catboost

    x, y = noise()
    rounds = max(1, int(1300 * size))
    options = {"depth": 10, "border_count": 32, "logging_level": "Silent", "allow_writing_files": False}
    catboost.CatBoostRegressor(iterations=rounds, **options).fit(x[:4000], y[:4000]).save_model(path, format="json")


MODELS: dict[str, tuple[str, Callable[[Path, float], None]]] = {
    "ONNX perceptron": ("onnx", onnx_mlp),
    "ONNX convolutions": ("onnx", onnx_cnn),
    "Keras perceptron": ("keras", keras_mlp),
    "PyTorch perceptron": ("pt2", torch_mlp),
    "scikit-learn perceptron": ("skops", skops_mlp),
    "XGBoost UBJSON": ("ubj", xgboost_trees),
    "XGBoost JSON": ("json", xgboost_trees),
    "LightGBM": ("txt", lightgbm_trees),
    "CatBoost": ("json", catboost_trees),
}


def memory(field: str) -> int:
    """Bytes of this process, by the kernel's name for them."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in status if line.startswith(field)))


def read(tiny: Path, large: Path) -> dict[str, Any]:
    """In a process of its own."""
    from gatesmith.frontends import read_model

    read_model(tiny)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_bytes(RESET)
    start = time.perf_counter()
    graph = read_model(large)
    seconds, peak = time.perf_counter() - start, memory("VmHWM") - before
    kept = sum(value.nbytes for node in graph.nodes for value in vars_of(node) if isinstance(value, np.ndarray))
    return {"seconds": round(seconds, 2), "peak_bytes": peak, "graph_bytes": kept}


def vars_of(node: Any) -> list[Any]:
    """What a node holds."""
    return [getattr(node, name) for kind in type(node).__mro__ for name in getattr(kind, "__slots__", ())]


def run(*arguments: object) -> str:
    """This file again."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def measured(name: str, folder: Path) -> dict[str, Any]:
    """One model; a file that is there from another time is taken."""
    suffix, _ = MODELS[name]
    tiny, large = (folder / f"{name.replace(' ', '-')}-{size}.{suffix}" for size in ("tiny", "large"))
    for path, size in ((tiny, 0.0), (large, 1.0)):
        if not path.exists():
            run("--write", name, path, size)
    found = json.loads(run("--read", tiny, large))
    size = large.stat().st_size
    row = {"model": name, "file_bytes": size, **found, "times_file": round(found["peak_bytes"] / size, 2)}
    row["missed"] = [target for target, most in TARGETS.items() if row[target] >= most]
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def main() -> None:
    """Every model, or a part of one."""
    match sys.argv[1:]:
        case ["--write", name, path, size]:
            MODELS[name][1](Path(path), float(size))
        case ["--read", tiny, large]:
            print(json.dumps(read(Path(tiny), Path(large))))
        case ["--keep", folder, *names]:
            rows = [measured(name, Path(folder)) for name in names or MODELS]
            print(json.dumps({"targets": TARGETS, "rows": rows}))
        case names:
            with tempfile.TemporaryDirectory() as scratch:
                rows = [measured(name, Path(scratch)) for name in names or MODELS]
            print(json.dumps({"targets": TARGETS, "rows": rows}))


if __name__ == "__main__":
    main()
