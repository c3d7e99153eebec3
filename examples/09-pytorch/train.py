"""Train a small network on iris, and export it as PyTorch does, with samples for the build."""

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from torch import nn

folder = Path(sys.argv[1])
torch.manual_seed(0)

x, y = load_iris(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x.astype("float32"), y, test_size=0.3, stratify=y, random_state=0)

model = nn.Sequential(nn.BatchNorm1d(4, affine=False), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
optimizer = torch.optim.Adam(model.parameters(), 0.05)
for _ in range(100):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(torch.tensor(x_train)), torch.tensor(y_train)).backward()
    optimizer.step()

example = torch.tensor(x_train[:2])
program = torch.export.export(model.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
torch.export.save(program, folder / "iris.pt2")

np.save(folder / "samples.npy", x_train)
np.save(folder / "test.npy", x_test)
with torch.no_grad():
    np.savez(folder / "wanted.npz", classes=model(torch.tensor(x_test)).argmax(dim=1).numpy(), labels=y_test)
