"""Trains the models of ``bench/models.py`` and keeps them as small files beside it: ``train_models.py [NAME...]``.

Seeds are fixed; another version of a library may still train another model, so the files are what is measured.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED

os.environ.setdefault("KERAS_BACKEND", "torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from data_sets import split

FOLDER = Path(__file__).parent / "models"


def sklearn_model(data: str, make: Callable[[], Any]) -> Callable[[str], None]:
    def run(name: str) -> None:
        from skops.io import dump

        given = split(data)
        dump(make().fit(given.x, given.y), FOLDER / f"{name}.skops", compression=ZIP_DEFLATED)

    return run


def mlp(*hidden: int, scaled: bool = True, **options: Any) -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = MLPClassifier(hidden, solver="lbfgs", alpha=1e-2, max_iter=2000, random_state=0, **options)
    return make_pipeline(StandardScaler(), network) if scaled else network


def regressor() -> Any:
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        StandardScaler(),
        MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", alpha=1000.0, max_iter=500, random_state=0),
    )


def reduced() -> Any:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), PCA(5, random_state=0), LogisticRegression())


def forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(10, max_depth=4, random_state=0)


def exported(data: str, make: Callable[[], Any]) -> Callable[[str], None]:
    def run(name: str) -> None:
        import onnx
        from skl2onnx import to_onnx

        given = split(data)
        model = make().fit(given.x, given.y)
        made = to_onnx(model, given.x[:1], target_opset=17, options={id(model): {"zipmap": False}})
        onnx.save(made, FOLDER / f"{name}.onnx")

    return run


def quantized_pairs(name: str) -> None:
    """onnxruntime's own static quantisation: QuantizeLinear and DequantizeLinear around each product."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter([{"X": split("wine").x[i : i + 8]} for i in range(0, 96, 8)])

        def get_next(self) -> Any:
            return next(self.rows, None)

    exported("wine", lambda: mlp(8))("float")
    plain, ready = FOLDER / "float.onnx", FOLDER / "ready.onnx"
    made = onnx.load(plain)
    # scores alone: what skl2onnx puts behind them is for the host
    quant_pre_process(made, ready, skip_symbolic_shape=True)
    quantize_static(
        ready,
        FOLDER / f"{name}.onnx",
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm"],
    )
    for path in (plain, ready):
        path.unlink()


def keras_model(data: str, layers: Callable[[], list[Any]], *, image: bool = False) -> Callable[[str], None]:
    def run(name: str) -> None:
        import keras

        keras.utils.set_random_seed(0)
        given = split(data)
        x = given.x[..., None] if image else given.x
        inner: list[Any] = [] if image else [_normalised(keras, given.x)]
        model = keras.Sequential([keras.Input(x.shape[1:], name="x"), *inner, *layers()])
        model.compile("adam", "sparse_categorical_crossentropy")
        for rate in (1e-2, 1e-3):
            model.optimizer.learning_rate = rate
            model.fit(x, given.y, epochs=40, batch_size=64, verbose=0)
        model.save(FOLDER / f"{name}.keras")

    return run


def _normalised(keras: Any, x: Any) -> Any:
    return keras.layers.Normalization(mean=x.mean(axis=0).tolist(), variance=x.var(axis=0).tolist())


def keras_mlp() -> list[Any]:
    from keras import layers

    return [layers.Dense(8, activation="relu"), layers.BatchNormalization(), layers.Dense(3, activation="softmax")]


def keras_cnn() -> list[Any]:
    from keras import layers

    return [
        layers.Conv2D(6, 3, strides=2),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ]


def hgq_model(data: str, *units: int) -> Callable[[str], None]:
    def run(name: str) -> None:
        import keras
        from hgq.config import LayerConfigScope, QuantizerConfigScope
        from hgq.layers import QDense
        from hgq.utils import trace_minmax

        keras.utils.set_random_seed(0)
        given = split(data)
        with (
            QuantizerConfigScope(place="all", default_q_type="kbi", overflow_mode="SAT_SYM", b0=6),
            QuantizerConfigScope(place="datalane", default_q_type="kif", overflow_mode="WRAP", f0=5),
            LayerConfigScope(enable_ebops=True, beta0=1e-6),
        ):
            *hidden, last = units
            layers = [QDense(n, activation="relu") for n in hidden] + [QDense(last)]
            model = keras.Sequential([keras.Input(given.x.shape[1:], name="x"), *layers])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-2), loss)
        model.fit(given.x, given.y, epochs=120, batch_size=64, verbose=0)
        trace_minmax(model, given.x, verbose=False)
        model.save(FOLDER / f"{name}.keras")

    return run


def torch_model(data: str, make: Callable[[Any], Any], *, image: bool = False) -> Callable[[str], None]:
    def run(name: str) -> None:
        import torch

        torch.manual_seed(0)
        given = split(data)
        x = torch.tensor(given.x[:, None] if image else given.x)
        y = torch.tensor(np.asarray(given.y), dtype=torch.long)
        model = make(x)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(300):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        batch = {0: torch.export.Dim("batch")}
        program = torch.export.export(model.eval(), (x[:4].clone(),), dynamic_shapes=(batch,))
        torch.export.save(program, FOLDER / f"{name}.pt2")

    return run


def torch_mlp(x: Any) -> Any:
    from torch import nn

    normal = nn.BatchNorm1d(x.shape[1], affine=False)
    return nn.Sequential(normal, nn.Linear(x.shape[1], 8), nn.ReLU(), nn.Linear(8, 2))


def torch_cnn(_: Any) -> Any:
    from torch import nn

    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 10))


def xgboost_model(data: str, **options: Any) -> Callable[[str], None]:
    def run(name: str) -> None:
        import xgboost

        given = split(data)
        model = xgboost.XGBClassifier(base_score=0.5, n_jobs=1, **options).fit(given.x, given.y)
        model.save_model(FOLDER / f"{name}.ubj")

    return run


def lightgbm_model(data: str, **options: Any) -> Callable[[str], None]:
    def run(name: str) -> None:
        import lightgbm

        given = split(data)
        model = lightgbm.LGBMClassifier(verbose=-1, random_state=0, n_jobs=1, **options).fit(given.x, given.y)
        model.booster_.save_model(FOLDER / f"{name}.txt")

    return run


def catboost_model(data: str, **options: Any) -> Callable[[str], None]:
    def run(name: str) -> None:
        import catboost

        given = split(data)
        model = catboost.CatBoostClassifier(random_seed=0, verbose=False, allow_writing_files=False, **options)
        model.fit(given.x, given.y)
        model.save_model(str(FOLDER / f"{name}.json"), format="json")

    return run


def bondmachine_model(data: str, hidden: int) -> Callable[[str], None]:
    """A network in the JSON of BondMachine's neuralbond: nodes and weights, each with its place."""

    def run(name: str) -> None:
        from sklearn.neural_network import MLPClassifier

        given = split(data)
        model = MLPClassifier((hidden,), solver="lbfgs", alpha=0.1, max_iter=2000, random_state=0)
        model.fit(given.x, given.y)
        classes = len(model.classes_)
        matrices = [*model.coefs_, np.ones((classes, classes)), np.eye(classes)]
        biases = [np.zeros(given.x.shape[1]), *model.intercepts_, np.zeros(classes), np.zeros(classes)]
        kinds = ["input", "relu", "summation", "softmax", "output"]
        nodes = [
            {"Layer": layer, "Pos": place, "Type": kinds[layer], "Bias": float(bias)}
            for layer, values in enumerate(biases)
            for place, bias in enumerate(values)
        ]
        weights = [
            {"Layer": layer, "PosCurrLayer": here, "PosPrevLayer": there, "Value": float(matrix[there, here])}
            for layer, matrix in enumerate(matrices, 1)
            for there, here in np.argwhere(matrix).tolist()
        ]
        (FOLDER / f"{name}.json").write_text(json.dumps({"Nodes": nodes, "Weights": weights}))

    return run


MODELS: dict[str, Callable[[str], None]] = {
    "sklearn-iris-mlp": sklearn_model("iris", lambda: mlp(8)),
    "sklearn-cancer-pca": sklearn_model("cancer", reduced),
    "sklearn-wine-forest": sklearn_model("wine", forest),
    "sklearn-digits-mlp": sklearn_model("digits", lambda: mlp(10)),
    "sklearn-diabetes-mlp": sklearn_model("diabetes", regressor),
    "onnx-wine-mlp": exported("wine", lambda: mlp(6, activation="tanh")),
    "onnx-wine-qdq": quantized_pairs,
    "keras-wine-mlp": keras_model("wine", keras_mlp),
    "keras-digits-cnn": keras_model("images", keras_cnn, image=True),
    "hgq-iris": hgq_model("iris", 8, 3),
    "hgq-banknote": hgq_model("banknote", 8, 2),
    "torch-banknote-mlp": torch_model("banknote", torch_mlp),
    "torch-digits-cnn": torch_model("images", torch_cnn, image=True),
    "xgboost-wine": xgboost_model("wine", n_estimators=10, max_depth=3),
    "xgboost-magic": xgboost_model("magic", n_estimators=50, max_depth=4, learning_rate=0.3),
    "lightgbm-cancer": lightgbm_model("cancer", n_estimators=20, num_leaves=8),
    "lightgbm-wine": lightgbm_model("wine", n_estimators=10, num_leaves=6),
    "catboost-iris": catboost_model("iris", iterations=10, depth=3),
    "bondmachine-iris": bondmachine_model("iris", 4),
    "catboost-banknote": catboost_model("banknote", iterations=30, depth=4),
}


def main() -> None:
    """Train all, or those named."""
    FOLDER.mkdir(exist_ok=True)
    warnings.simplefilter("ignore")
    for name in sys.argv[1:] or MODELS:
        MODELS[name](name)
        (path,) = FOLDER.glob(f"{name}.*")
        print(f"{path.name}: {path.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
