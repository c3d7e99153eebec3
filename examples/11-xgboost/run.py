"""Train XGBoost on data with gaps, build from its file, infer with gaps on the emulated board, compare."""

import tempfile
from pathlib import Path

import numpy as np
import xgboost
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from gatesmith import build_firmware, open_device

x, y = load_wine(return_X_y=True)
x = x.astype(np.float32)
x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan  # a tenth of the measurements were never made
x_train, x_test, y_train, _ = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
model = xgboost.XGBClassifier(n_estimators=4, max_depth=3, learning_rate=0.5).fit(x_train, y_train)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "wine.ubj"
    model.save_model(path)
    # calibration data with gaps make firmware that takes gaps
    firmware = build_firmware(path, "icebreaker", calibration=x_train, precision="exact").firmware
print(f"{firmware.latency_cycles} cycles, {firmware.report.utilization['ICESTORM_LC'].used} logic cells")

contract = firmware.contract
with open_device("emulator:0") as device:
    device.program(firmware)
    given = contract.decode(device.infer(contract.encode({"input": x_test})))["probabilities"]
agreement = np.mean(given.argmax(axis=1) == model.predict(x_test))
print(f"{len(x_test)} samples, {np.isnan(x_test).sum()} gaps: agreement {agreement:.3f}")
assert np.isnan(x_test).any(axis=1).sum() > len(x_test) / 2
assert agreement == 1
