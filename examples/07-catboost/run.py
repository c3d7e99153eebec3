"""Train with CatBoost, build, infer on the emulated board, compare."""

import numpy as np
from catboost import CatBoostClassifier
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from gatesmith import build_firmware, open_device

iris = load_iris()
x, y = iris.data.astype(np.float32), iris.target_names[iris.target]
x_train, x_test, y_train, _ = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
model = CatBoostClassifier(iterations=6, depth=2, learning_rate=0.5, verbose=0, allow_writing_files=False)
model.fit(x_train, y_train)

firmware = build_firmware(model, "icebreaker", calibration=x_train, name="iris").firmware
output = firmware.contract.outputs[0]
print(f"{firmware.latency_cycles} cycles, classes {', '.join(output.labels)}")

contract = firmware.contract
with open_device("emulator:0") as device:
    device.program(firmware)
    given = contract.decode(device.infer(contract.encode({"input": x_test})))[output.spec.name]
classes = np.array(output.labels)[given.argmax(axis=1)]
agreement = np.mean(classes == model.predict(x_test).ravel())
print(f"{len(x_test)} samples: agreement {agreement:.3f}")
assert agreement >= 0.95
