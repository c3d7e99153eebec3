"""Train with LightGBM, build from its file, infer on the emulated board, compare."""

import tempfile
from pathlib import Path

import lightgbm
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from gatesmith import build_firmware, open_device

x, y = load_wine(return_X_y=True)
x_train, x_test, y_train, _ = train_test_split(x.astype(np.float32), y, test_size=0.3, stratify=y, random_state=0)
parameters = {"objective": "multiclass", "num_class": 3, "num_leaves": 4, "min_data_in_leaf": 5, "verbose": -1}
model = lightgbm.train(parameters, lightgbm.Dataset(x_train, y_train), 6)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "wine.txt"
    model.save_model(path)
    firmware = build_firmware(path, "icebreaker", calibration=x_train).firmware
print(f"{firmware.latency_cycles} cycles, {firmware.report.utilization['ICESTORM_LC'].used} logic cells")

contract = firmware.contract
with open_device("emulator:0") as device:
    device.program(firmware)
    given = contract.decode(device.infer(contract.encode({"input": x_test})))["probabilities"]
agreement = np.mean(given.argmax(axis=1) == model.predict(x_test).argmax(axis=1))
print(f"{len(x_test)} samples: agreement {agreement:.3f}")
assert agreement >= 0.95
