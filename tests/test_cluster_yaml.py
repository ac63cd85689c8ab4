"""cluster.yaml without a cloud: Ray's own schema, and what Ray would accept in silence."""

import copy
import itertools
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
FILE = ROOT / "cluster.yaml"
PROVIDER_KEYS = {  # of AWS, as ray/autoscaler/_private/aws reads them
    "type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips",
    "security_group", "key_pair", "aws_credentials", "cloudwatch", "disable_node_updaters",
}  # fmt: skip
NODE_KEYS = {  # parameters of EC2's RunInstances that make sense here, and Ray's own SubnetIds
    "BlockDeviceMappings", "CapacityReservationSpecification", "CpuOptions", "CreditSpecification",
    "DisableApiTermination", "EbsOptimized", "IamInstanceProfile", "ImageId",
    "InstanceInitiatedShutdownBehavior", "InstanceMarketOptions", "InstanceType", "KeyName",
    "LaunchTemplate", "MetadataOptions", "Monitoring", "NetworkInterfaces", "Placement",
    "SecurityGroupIds", "SubnetId", "SubnetIds", "TagSpecifications", "UserData",
}  # fmt: skip


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def check_with_ray(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` checks before it talks to AWS."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def complaints(config: dict[str, Any]) -> list[str]:
    """What Ray accepts without a word and AWS, or the bill, would tell of later."""
    found = []
    provider = config["provider"]
    found += [f"provider.{key} is unknown" for key in sorted(set(provider) - PROVIDER_KEYS)]
    region = provider.get("region", "")
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", region):
        found.append(f"provider.region is {region!r}")
    zones = provider.get("availability_zone", "").split(",")
    found += [f"{zone!r} is not in {region}" for zone in zones if not zone.startswith(region)]
    for name, kind in config["available_node_types"].items():
        node = kind["node_config"]
        found += [f"{name}: {key} is unknown to EC2" for key in sorted(set(node) - NODE_KEYS)]
        found += [
            f"{name}: {key} is missing" for key in ("InstanceType", "ImageId") if key not in node
        ]
        if kind.get("max_workers", 0) > config.get("max_workers", 0):
            found.append(f"{name}: max_workers is above the limit for all")
        if name != config["head_node_type"] and kind.get("min_workers") != 0:
            found.append(f"{name}: min_workers is not 0")
    return found


def with_value(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    *heads, last = path.split(".")
    place = changed
    for head in heads:
        place = place[head]
    place[last] = value
    return changed


def test_ray_accepts_the_file_and_adds_no_setup_of_its_own(config):
    prepared = check_with_ray(config)
    assert complaints(prepared) == []
    commands = " ".join(prepared["head_setup_commands"] + prepared["worker_setup_commands"])
    assert "ray-wheels" not in commands
    assert commands.count("-c constraints.txt") == 2
    assert (ROOT / "constraints.txt").exists()


def test_workers_are_gpu_machines_from_none_to_a_hard_maximum_and_the_head_is_not(config):
    head = config["available_node_types"][config["head_node_type"]]
    (gpu,) = [k for n, k in config["available_node_types"].items() if n != config["head_node_type"]]
    assert "GPU" not in head["resources"]
    assert gpu["resources"]["GPU"] == 1
    assert (gpu["min_workers"], gpu["max_workers"], config["max_workers"]) == (0, 4, 4)


def test_every_node_starts_with_token_authentication_and_a_private_token(config):
    for kind in ("head", "worker"):
        (start,) = [c for c in config[f"{kind}_start_ray_commands"] if "ray start" in c]
        assert "RAY_AUTH_MODE=token" in start
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    assert "--dashboard-host=127.0.0.1" in " ".join(config["head_start_ray_commands"])


def test_every_key_has_a_comment():
    lines = FILE.read_text().splitlines()
    bare = [
        line
        for before, line in itertools.pairwise(lines)
        if re.match(r'\s*(- )?["\w~/.]+:( |$)', line) and not before.strip().startswith("#")
    ]
    assert bare == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("max_wokers", 3),
        ("head_node_type", "nobody"),
        ("provider.type", "awss"),
        ("available_node_types.gpu.min_workers", 9),
        ("available_node_types.gpu.resources", {"CPU": "four"}),
    ],
)
def test_ray_itself_rejects_this(config, path, value):
    with pytest.raises((ValueError, NotImplementedError, jsonschema.ValidationError)):
        check_with_ray(with_value(config, path, value))


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("provider.regoin", "us-east-1", "provider.regoin is unknown"),
        ("provider.region", "", "provider.region is ''"),
        ("provider.availability_zone", "eu-west-1a", "'eu-west-1a' is not in us-east-1"),
        (
            "available_node_types.gpu.node_config.InstanceTyp",
            "g6.xlarge",
            "gpu: InstanceTyp is unknown to EC2",
        ),
        ("available_node_types.gpu.max_workers", 9, "gpu: max_workers is above the limit for all"),
        ("available_node_types.gpu.min_workers", 1, "gpu: min_workers is not 0"),
        ("available_node_types.gpu.node_config", {}, "gpu: InstanceType is missing"),
    ],
)
def test_ray_accepts_this_in_silence_and_we_do_not(config, path, value, complaint):
    wrong = with_value(config, path, value)
    check_with_ray(wrong)
    assert complaint in complaints(wrong)
