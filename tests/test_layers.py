"""The structure that the design promises: imports point down, the core needs no ray or mlflow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "raysl"
LAYERS = [
    {"__init__", "rng", "config", "memory", "cpus", "precision"},
    {"optim", "views", "data", "tracking", "encoder", "patch_embed"},
    {"evaluation"},
    {"methods"},
    {"recipe", "result"},
    {
        "capture",
        "compiled",
        "feed",
        "logged",
        "signals",
        "state",
        "stopping",
        "train",
        "provenance",
    },
    {"trial"},
    {"study", "analysis", "progress"},
    {
        "cluster",
        "mlflow_tracker",
        "mlflow_runs",
        "mlflow_curves",
        "mlflow_views",
        "mlflow_mirror",
        "mlflow_ui",
    },
    {"plan", "threshold_table", "commands", "doctor"},
    {"cli", "cli_data"},
]
OWNERS = {
    "ray": lambda parts: parts[0] == "cluster",
    "mlflow": lambda parts: parts[0] == "mlflow_tracker",
    "optuna": lambda parts: parts == ("study", "search"),
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def parts_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(PACKAGE).with_suffix("").parts


def layer_of(part: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if part in layer)


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: "/".join(parts_of(p)))
def test_imports_point_down(path):
    here = layer_of(parts_of(path)[0])
    for name in imports_of(path):
        first, *rest = name.split(".")
        if first == "raysl" and rest and rest[0] in {p for layer in LAYERS for p in layer}:
            assert layer_of(rest[0]) <= here, f"{name} is above {path.name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: "/".join(parts_of(p)))
def test_ray_mlflow_and_optuna_are_imported_in_their_own_place_only(path):
    for name in imports_of(path):
        owner = OWNERS.get(name.split(".")[0])
        assert owner is None or owner(parts_of(path)), f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: "/".join(parts_of(p)))
def test_files_stay_readable(path):
    assert path.stem not in ("utils", "helpers")
    assert len(path.read_text().splitlines()) <= 320


@pytest.mark.slow
def test_the_core_trains_every_method_where_ray_mlflow_optuna_and_pyarrow_are_absent(tmp_path):
    code = """
import sys
from pathlib import Path
for name in ("ray", "mlflow", "optuna", "pyarrow", "typer", "rich", "pandas"):
    sys.modules[name] = None
import timm
import torch
from raysl.data.digest import file_hash
from raysl.data.images import Splits, TensorImages
from raysl.methods import METHODS
from raysl.recipe import Recipe
from raysl.train import train
pixels = torch.randint(0, 256, (16, 3, 16, 16), dtype=torch.uint8)
images = TensorImages(pixels, torch.arange(16) % 4, tuple("abcd"), "noise", "0")
weights = Path(sys.argv[1])  # in place of public ones: a core needs no network either
torch.save(timm.create_model("resnet10t").state_dict(), weights)
public = {"method.weights": str(weights), "method.digest": file_hash(weights)[:16]}
own = {"pretrained": public | {"encoder.name": "resnet10t", "views.size": 32}}
for name, method in METHODS.items():
    recipe = Recipe.create(name, dataset="0", label_size=16,
                           **({"pool_size": 16} if method.trains_on == "pool" else {}),
                           batch_size=8)
    recipe = recipe.with_overrides({"duration": "2 steps"} | own.get(name, {}))
    state = train(recipe, images)
    print(name, state.step)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "weights.pt")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    from raysl.methods import METHODS

    steps = dict(line.split() for line in run.stdout.splitlines())
    assert set(steps) == set(METHODS)
    assert {n for n, s in steps.items() if s == "2"} == {
        n for n, m in METHODS.items() if m.trains_on != "nothing"
    }
