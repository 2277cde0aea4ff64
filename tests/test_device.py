"""Names of devices, and whether they are here."""

from __future__ import annotations

import pytest
import torch

from hwprune.device import GPUS, Device, in_this_machine, is_product, resolve
from hwprune.errors import DeviceError


@pytest.mark.parametrize("spelling", ["rtx3090", "RTX 3090", "rtx-3090", "NVIDIA GeForce RTX 3090"])
def test_a_card_may_be_spelled_in_any_usual_way(spelling: str) -> None:
    device = resolve(spelling)

    assert (device.name, device.kind) == ("rtx3090", "cuda")
    assert device.compute_capability == (8, 6)


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("NVIDIA GeForce RTX 3090 Ti", "rtx3090ti"),
        ("NVIDIA GeForce RTX 2080 SUPER", "rtx2080super"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "rtx4070tisuper"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", "a10g"),
        ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
    ],
)
def test_the_drivers_name_of_a_card_means_exactly_one_device(product: str, name: str | None) -> None:
    assert [known for known in GPUS if is_product(product, known)] == ([name] if name else [])


def test_every_name_in_the_table_resolves_to_itself() -> None:
    assert [resolve(name).name for name in GPUS] == list(GPUS)


def test_an_unknown_name_shows_what_looks_like_it() -> None:
    with pytest.raises(DeviceError, match="rtx3090"):
        resolve("rtx3900")


def test_the_cpu_is_always_here_and_says_what_it_is() -> None:
    device = resolve("CPU")
    device.require_here("measuring")
    found = device.fingerprint()

    assert device == Device("cpu", "cpu")
    assert {"cpu", "cores", "flags", "memory", "os"} <= set(found)
    assert all(isinstance(value, str) for value in found.values())
    assert found == device.fingerprint()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_card_is_refused_with_what_is_here() -> None:
    for name in ("cuda", "cuda:3", "h200"):
        device = resolve(name)
        with pytest.raises(DeviceError) as caught:
            device.require_here("measuring latency")

        assert not device.here
        assert in_this_machine()[0] in str(caught.value)
        assert "measuring latency" in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_first_card_is_here_with_its_capability() -> None:
    device = resolve("cuda")

    assert device.here and device.index == 0
    assert device.compute_capability == torch.cuda.get_device_capability(0)
    assert "gpu" in device.fingerprint()


def test_slugs_are_good_file_names() -> None:
    for name in ("cpu", "cuda:1", "rtx3090ti"):
        assert resolve(name).slug.replace("-", "").isalnum()
