"""Write iris.onnx, samples.npy for calibration, test.npy and what the float model makes of it, wanted.npy."""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

folder = Path(sys.argv[1])
x, y = load_iris(return_X_y=True)
x_train, x_test, y_train, _ = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
model = MLPClassifier((6,), solver="lbfgs", alpha=0.1, max_iter=2000, random_state=0).fit(x_train, y_train)

weights = {
    name: value.astype(np.float32)
    for i, (matrix, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True))
    for name, value in ((f"W{i}", matrix), (f"b{i}", bias))
}
nodes = [
    helper.make_node("Gemm", ["measurements", "W0", "b0"], ["sums"], name="hidden"),
    helper.make_node("Relu", ["sums"], ["active"], name="relu"),
    helper.make_node("Gemm", ["active", "W1", "b1"], ["logits"], name="output"),
    helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax", axis=-1),
]
graph = helper.make_graph(
    nodes,
    "iris",
    [helper.make_tensor_value_info("measurements", TensorProto.FLOAT, ["batch", 4])],
    [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
    [numpy_helper.from_array(value, name) for name, value in weights.items()],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "iris.onnx")
np.save(folder / "samples.npy", x_train)
np.save(folder / "test.npy", x_test)
np.save(folder / "wanted.npy", model.predict_proba(x_test))
