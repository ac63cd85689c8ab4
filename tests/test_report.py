"""The report: everything that a study's directory holds, and nothing that it does not."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from raysl.analysis.report import write_report
from raysl.result import TrialResult, write_result
from raysl.study.results import load_results, write_results

SIZES = (500, 1000, 2000, 4000, 8000)


class StudyFolder:
    """Writes a study's directory file by file, as a run does."""

    def __init__(self, directory: Path, **changes):
        self.directory = directory
        self.order = 0
        self.study = {
            "name": "size-threshold-demo",
            "question": "From how many unlabelled images on does simclr beat scratch?",
            "data": "sklearn:digits",
            "base": {
                "dataset": "d1g1",
                "pool_size": 8000,
                "label_size": 200,
                "encoder": {"name": "convnet", "width": 64},
                "method": {"name": "simclr", "temperature": 0.2},
                "duration": {"amount": 1000.0, "unit": "steps"},
                "batch_size": 256,
            },
            "axes": {"arm": ["simclr", "scratch", "random"], "pool_size": list(SIZES)},
            "arm": "simclr",
            "baseline": "scratch",
            "size_axis": "pool_size",
            "objective": "linear_top1",
            "confirm_seeds": [0, 1, 2],
            "space": None,
            "trials": 0,
            "digest": "0123456789abcdef",
            "command": "raysl run studies/size_threshold.py data=sklearn:digits seeds=3",
        } | changes
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "study.json").write_text(json.dumps(self.study))

    def add(
        self,
        arm,
        size,
        seed,
        metrics=None,
        *,
        phase="confirm",
        number=None,
        params=None,
        status="ok",
        error=None,
        flags=(),
        provenance=None,
        finished=True,
        **cell,
    ):
        digest = f"{self.order:016x}"
        folder = self.directory / "trials" / digest
        folder.mkdir(parents=True)
        proposal = {
            "order": self.order,
            "digest": digest,
            "cell": {"arm": arm, "pool_size": size} | cell,
            "phase": phase,
            "seed": seed,
            "number": seed if number is None else number,
            "params": params or {},
            "attempt": 1,
        }
        self.order += 1
        (folder / "proposal.json").write_text(json.dumps(proposal))
        if not finished:
            return digest
        duration = {"amount": 100.0, "unit": "epochs"} if arm == "scratch" else None
        recipe = self.study["base"] | {"pool_size": size, "seed": seed}
        result = TrialResult(
            digest=digest,
            recipe=recipe | ({"duration": duration} if duration else {}),
            status=status,
            final=phase == "confirm",
            metrics=metrics or {},
            protocols={"linear": 1, "knn": 1},
            flags=flags,
            cost={}
            if status == "failed"
            else {"seconds": 31.5, "device_seconds": 31.5, "examples": 256_000.0, "steps": 1000.0},
            provenance=provenance
            or {"commit": "abc123", "torch": "2.12.0", "device": "x86_64", "data_digest": "d1g1"},
            error=error,
            attempts=3 if status == "failed" else 1,
        )
        write_result(result, folder)
        return digest


def top1(value, noise=0.0):
    return {
        "val/linear_top1": value + 0.5,
        "test/linear_top1": value + noise,
        "test/knn_top1": value - 3 + noise,
    }


def threshold_study(directory, *, seeds=3, crossing=1800.0, **changes):
    """SimCLR over a flat scratch arm and a flat random encoder, crossing at a known size."""
    folder = StudyFolder(directory, **changes)
    rng = np.random.default_rng(5)
    for seed in range(seeds):
        for size in SIZES:
            value = 78 + 4.0 * math.log(size / crossing)
            folder.add("simclr", size, seed, top1(value, rng.normal(0, 0.6)))
        noise = rng.normal(0, 0.6)
        folder.add("scratch", None, seed, top1(78, noise) | {"test/head_top1": 78.4 + noise})
        folder.add("random", None, seed, top1(66, rng.normal(0, 0.4)))
    return folder


def search_study(directory):
    """A search over three parameters at three sizes, then two confirmations of each best."""
    folder = StudyFolder(
        directory,
        name="simclr-temperature",
        question="Which temperature suits which size?",
        baseline=None,
        axes={"arm": ["simclr"], "pool_size": [500, 2000, 8000]},
        space={"temperature": [0.03, 1.0]},
        trials=16,
    )
    rng = np.random.default_rng(7)
    best = {500: 0.5, 2000: 0.2, 8000: 0.1}
    for size, temperature in best.items():
        for number in range(16):
            params = {
                "method.temperature": float(np.exp(rng.uniform(np.log(0.03), np.log(1.0)))),
                "views.min_crop": float(rng.uniform(0.05, 0.9)),
                "optim.name": ["lars", "sgd", "adamw"][int(rng.integers(3))],
            }
            loss = 3 * math.log(params["method.temperature"] / temperature) ** 2
            value = 70 + 3 * math.log(size / 500) - loss - 5 * (params["views.min_crop"] - 0.3) ** 2
            folder.add(
                "simclr",
                size,
                1_000_000,
                top1(value + rng.normal(0, 0.5)),
                phase="search",
                number=number,
                params=params,
                status="stopped" if number == 5 else "ok",
            )
        for seed in range(2):
            value = 70 + 3 * math.log(size / 500) + rng.normal(0, 0.5)
            chosen = {"method.temperature": temperature}
            folder.add("simclr", size, seed, top1(value), params=chosen)
    shares = {"method.temperature": 0.7, "views.min_crop": 0.2, "optim.name": 0.1}
    importance = {f"arm=simclr pool_size={size}": shares for size in best}
    (directory / "importance.json").write_text(json.dumps(importance))
    return folder
