"""Train a small network on the wine data, and save it as Keras does, with samples for the build."""

import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")  # or jax or tensorflow: the file is the same

import keras
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

folder = Path(sys.argv[1])
keras.utils.set_random_seed(0)

x, y = load_wine(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x.astype("float32"), y, test_size=0.3, stratify=y, random_state=0)

scaling = keras.layers.Normalization(name="scaling")  # part of the model, so the board takes measurements as they are
scaling.adapt(x_train)
model = keras.Sequential(
    [
        keras.Input((13,), name="measurements"),
        scaling,
        keras.layers.Dense(8, activation="relu", kernel_regularizer="l2"),
        keras.layers.Dense(3, activation="softmax", name="probabilities"),
    ]
)
model.compile(keras.optimizers.Adam(0.05), loss="sparse_categorical_crossentropy")
model.fit(x_train, y_train, epochs=40, batch_size=len(x_train), verbose=0)
model.save(folder / "wine.keras")

np.savez(folder / "samples.npz", x=x_train, y=y_train)
np.save(folder / "test.npy", x_test)
np.savez(folder / "wanted.npz", classes=model.predict(x_test, verbose=0).argmax(axis=1), labels=y_test)
