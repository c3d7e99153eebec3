"""A model whose formats were trained with HGQ2: the board's numbers are Keras' own, without any difference."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")  # or jax or tensorflow

import keras
import numpy as np
from hgq.layers import QDense
from hgq.utils import trace_minmax
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from gatesmith import build_firmware, open_device

keras.utils.set_random_seed(0)
x, y = load_iris(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x.astype("float32"), y, test_size=0.3, stratify=y, random_state=0)

model = keras.Sequential(
    [keras.Input((4,), name="flower"), QDense(6, activation="relu"), QDense(3, name="scores")], name="iris"
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(0.05), loss)
model.fit(x_train, y_train, epochs=60, batch_size=len(x_train), verbose=0)
trace_minmax(model, x_train, verbose=False)  # how large the numbers get

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "iris.keras"
    model.save(path)
    firmware = build_firmware(path, "icebreaker", calibration=x_train).firmware

inside = np.clip(x_test, x_train.min(axis=0), x_train.max(axis=0))  # beyond that the formats wrap
wanted = keras.ops.convert_to_numpy(model(inside, training=False))
with open_device("emulator:0") as device:
    device.program(firmware)
    given = firmware.contract.decode(device.infer(firmware.contract.encode({"flower": inside})))["scores"]

accuracy = np.mean(given.argmax(axis=1) == y_test)
print(f"{len(given)} samples: largest difference to Keras {np.abs(given - wanted).max():g}, accuracy {accuracy:.3f}")
assert (given == wanted).all()
