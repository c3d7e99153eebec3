"""Write a network as BondMachine's neuralbond does, build it, infer on the emulated board, compare."""

import json
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from gatesmith import build_firmware, open_device

x, y = load_iris(return_X_y=True)
x_train, x_test, y_train, _ = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
network = MLPClassifier((4,), solver="lbfgs", alpha=0.1, max_iter=2000, random_state=0).fit(x_train, y_train)

matrices = [*network.coefs_, np.ones((3, 3)), np.eye(3)]
biases = [np.zeros(4), *network.intercepts_, np.zeros(3), np.zeros(3)]
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
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "iris.json"
    path.write_text(json.dumps({"Nodes": nodes, "Weights": weights}))
    firmware = build_firmware(path, "icebreaker", calibration=x_train).firmware

contract = firmware.contract
with open_device("emulator:0") as device:
    device.program(firmware)
    given = contract.decode(device.infer(contract.encode({"input": x_test})))["probabilities"]
agreement = np.mean(given.argmax(axis=1) == network.predict(x_test))
print(f"{len(x_test)} samples: agreement {agreement:.3f}")
assert agreement >= 0.95
