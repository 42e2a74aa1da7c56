"""One key for all the names of a GPU, and no key for two GPUs."""

import pytest

from aitbc.core.gpu_names import model_key

SAME = {
    "rtx4090": ("RTX 4090", "NVIDIA GeForce RTX 4090", "rtx-4090", "GeForce® RTX™ 4090 24GB", "  Rtx4090 "),
    "rtx4090ti": ("RTX 4090 Ti", "NVIDIA GeForce RTX 4090Ti"),
    "a100": ("A100", "NVIDIA A100-SXM4-80GB", "A100-PCIE-40GB", "Tesla A100", "nvidia_a100_80g"),
    "h100": ("H100", "NVIDIA H100 80GB HBM3", "H100 SXM5", "H100 PCIe", "H100 NVL"),
    "rtx6000adageneration": ("NVIDIA RTX 6000 Ada Generation", "rtx 6000 ada generation 48GB"),
    "rx7900xtx": ("AMD Radeon RX 7900 XTX", "RX7900XTX"),
    "mi300x": ("AMD MI300X OAM", "MI300X"),
    "m2ultra": ("Apple M2 Ultra",),
    "nvidia": ("NVIDIA", "nvidia"),
    "": ("", " - ", "®"),
}


@pytest.mark.parametrize(("key", "names"), SAME.items())
def test_one_key_for_all_names_of_a_model(key: str, names: tuple[str, ...]) -> None:
    assert {name: model_key(name) for name in names} == dict.fromkeys(names, key)


def test_two_models_have_two_keys() -> None:
    models = (
        "RTX 4090",
        "RTX 4090 D",
        "RTX 4080",
        "RTX 4080 Super",
        "GTX 1080",
        "A100",
        "A10",
        "A10G",
        "H100",
        "H200",
    )
    assert len({model_key(name) for name in models}) == len(models)


def test_a_key_is_its_own_key() -> None:
    for key, names in SAME.items():
        assert model_key(key) == key, names
