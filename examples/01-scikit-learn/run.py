"""Train, build, infer on the emulated board, compare with scikit-learn."""

import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gatesmith import build_firmware, open_device

x, y = load_wine(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
network = MLPClassifier((6,), solver="lbfgs", alpha=0.3, max_iter=1000, random_state=0)
model = make_pipeline(StandardScaler(), network).fit(x_train, y_train)

build = build_firmware(model, "icebreaker", calibration=x_train, name="wine")
firmware = build.firmware
print(
    f"{firmware.latency_cycles} cycles at {firmware.clock_hz / 1e6:g} MHz, fmax {firmware.report.fmax_hz / 1e6:.1f} MHz"
)

contract = firmware.contract
with open_device("emulator:0") as device:
    device.program(firmware)
    answers = contract.decode(device.infer(contract.encode({contract.inputs[0].spec.name: x_test})))
probabilities = answers[contract.outputs[0].spec.name]

wanted = model.predict_proba(x_test)
agreement = np.mean(np.argmax(probabilities, axis=1) == np.argmax(wanted, axis=1))
accuracy = np.mean(np.argmax(probabilities, axis=1) == y_test)
error = np.max(np.abs(probabilities - wanted))
print(f"{len(x_test)} samples: agreement {agreement:.3f}, accuracy {accuracy:.3f}, largest error {error:.3f}")
assert agreement >= 0.95
assert error < 0.3
