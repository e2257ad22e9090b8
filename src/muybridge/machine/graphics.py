"""GPUs: the driver, torch's build for CUDA, and whether the two and the hardware fit together."""

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from muybridge.machine.finding import Asked, Finding, imported, reason
from muybridge.machine.programs import answer_of, whole_number
from muybridge.text import gib

LEAST_DRIVER = {11: 450, 12: 525, 13: 580}
"""The oldest driver that runs programs of a major version of CUDA (NVIDIA, CUDA Compatibility, table 1)."""
INDEXES = {11: "torch==2.7.1 --index-url https://download.pytorch.org/whl/cu118",
           12: "torch --index-url https://download.pytorch.org/whl/cu126",
           13: "torch"}  # fmt: skip
"""A torch for drivers that run this major version of CUDA; the package index's own is built for the newest."""
SMI_SECONDS = 5.0
QUERY = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.used", "--format=csv,noheader,nounits")
DRIVER = Path("/proc/driver/nvidia/version")
DEVICES = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAYS = "0x10de", ("0x0300", "0x0302")
"""Maker and kinds of devices on the bus."""
TORCH = "pip install --force-reinstall"


def look(asked: Asked) -> Iterator[Finding]:
    """Ask the driver, then torch, and compare what they say."""
    driver, cards, why = asked_driver()
    torch, broken = imported("torch")
    if torch is None:
        yield Finding(
            "torch-cannot-be-imported",
            "fault",
            f"torch cannot be imported: {broken}.",
            fitting(driver) if driver or cards else f"{TORCH} torch",
            {"driver": driver},
        )
        return
    cuda, hip = torch.version.cuda, getattr(torch.version, "hip", None)
    figures = {"torch": torch.__version__, "cuda": cuda, "hip": hip, "driver": driver, "gpus": cards}
    if why.startswith("it gives no answer"):
        yield Finding(
            "nvidia-smi-hangs",
            "doubt",
            f"nvidia-smi: {why}. The driver may hang.",
            "Restart the machine, or ask who runs it",
            figures,
        )
    if cuda is None and hip is None:
        yield from _without_cuda(torch, driver, cards, figures)
        return
    oldest = LEAST_DRIVER.get(major(cuda), 0) if cuda else 0
    if driver and major(driver) < oldest:
        yield Finding(
            "driver-too-old",
            "fault",
            f"torch {torch.__version__} is built for CUDA {cuda}, which needs driver {oldest} or newer; {driver} is here.",
            fitting(driver, before="Install a newer driver, or a torch for this one: "),
            figures,
        )
        return
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        is_there = torch.cuda.is_available()
    if not is_there:
        because = f" ({' '.join(str(told[0].message).split())})" if told else ""
        if driver or cards:
            yield Finding(
                "gpu-not-usable",
                "fault",
                f"A driver ({driver or 'of unknown version'}) is here, but torch finds no GPU{because}.",
                "See whether nvidia-smi lists it and CUDA_VISIBLE_DEVICES names it; containers need --gpus all",
                figures,
            )
        else:
            yield Finding(
                "no-gpu", "note", f"No GPU: torch {torch.__version__} computes on processors.", figures=figures
            )
        return
    for index in range(torch.cuda.device_count()):
        yield from _gpu(torch, index)


def asked_driver() -> tuple[str, list[dict[str, Any]], str]:
    """(version of the driver, GPUs, why nvidia-smi says nothing); from the system's files where nvidia-smi says nothing."""
    answer, why = answer_of(*QUERY, seconds=SMI_SECONDS)
    cards: list[dict[str, Any]] = []
    driver = ""
    for line in answer.splitlines():
        parts = [part.strip() for part in line.split(",")]
        total, used = (whole_number(part) for part in parts[2:]) if len(parts) == 4 else (None, None)
        if total is not None and used is not None:
            driver = parts[1] if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}", parts[1]) else driver
            cards.append({"name": parts[0], "total_bytes": total * 2**20, "used_bytes": used * 2**20})
    if not driver:
        try:
            found = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", DRIVER.read_text())
        except OSError:
            found = None
        driver = found[1] if found else ""
    return driver, cards or _on_the_bus(), why


def _on_the_bus() -> list[dict[str, Any]]:
    """GPUs that the system sees, with or without a driver."""
    found = []
    for device in sorted(DEVICES.glob("*")) if DEVICES.is_dir() else ():
        try:
            maker, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        if maker == NVIDIA and kind[:6] in DISPLAYS:
            found.append({"name": "an NVIDIA GPU"})
    return found


def major(version: str) -> int:
    """First number of a version; 0 without one."""
    return whole_number(version.split(".")[0]) or 0


def fitting(driver: str, *, before: str = "") -> str:
    """A remedy: the torch whose CUDA a driver runs, or a newer driver where none does. Unknown: the newest torch."""
    number = major(driver) or max(LEAST_DRIVER.values())
    runs = [cuda for cuda, oldest in LEAST_DRIVER.items() if number >= oldest]
    if not runs:
        newest = max(LEAST_DRIVER)
        return (
            f"Install a newer driver: {LEAST_DRIVER[newest]} runs CUDA {newest}; no torch is left for driver {driver}"
        )
    return f"{before}{TORCH} {INDEXES[max(runs)]}"


def _without_cuda(
    torch: Any, driver: str, cards: Sequence[dict[str, Any]], figures: dict[str, Any]
) -> Iterator[Finding]:
    if cards and not driver:
        yield Finding(
            "driver-missing",
            "doubt",
            "An NVIDIA GPU is here, but no driver, and torch is a build for processors.",
            f"Install a driver, then a torch for it: {TORCH} torch",
            figures,
        )
    elif driver:
        name = cards[0]["name"] if cards else "a GPU"
        yield Finding(
            "torch-without-cuda",
            "doubt",
            f"{name} is here (driver {driver}), but torch {torch.__version__} is a build for processors: the GPU stays idle.",
            fitting(driver),
            figures,
        )
    else:
        yield Finding("no-gpu", "note", f"No GPU: torch {torch.__version__} computes on processors.", figures=figures)


def runs_on(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Whether torch's kernels, as sm_90 or compute_90, run on a GPU of this compute capability.

    Machine code runs on GPUs of the same major number and the same or a higher minor one; compute_NN is compiled for
    newer ones when it is loaded.
    """
    for name in built_for:
        kind, _, number = name.partition("_")
        digits = re.match(r"\d+", number)
        if not digits or len(digits[0]) < 2:
            continue
        built = int(digits[0][:-1]), int(digits[0][-1])
        is_exact = number != digits[0]  # sm_90a runs there alone
        if kind == "sm" and (
            built == capability if is_exact else built[0] == capability[0] and built[1] <= capability[1]
        ):
            return True
        if kind == "compute" and not is_exact and built <= capability:
            return True
    return False


def _gpu(torch: Any, index: int) -> Iterator[Finding]:
    name, capability = torch.cuda.get_device_name(index), tuple(torch.cuda.get_device_capability(index))
    built_for = list(torch.cuda.get_arch_list())
    figures = {"index": index, "name": name, "capability": f"{capability[0]}.{capability[1]}", "built_for": built_for}
    if built_for and not torch.version.hip and not runs_on(capability, built_for):
        newer = capability > max((int(n[:-1]), int(n[-1])) for one in built_for if (n := re.sub(r"\D", "", one)))
        remedy = f"{TORCH} torch --upgrade" if newer else f"An older torch still has it: {TORCH} {INDEXES[12]}"
        yield Finding(
            "gpu-of-another-architecture",
            "fault",
            f"GPU {index} ({name}) has compute capability {capability[0]}.{capability[1]}, for which torch {torch.__version__} "
            f"is not built ({', '.join(built_for)}).",
            remedy,
            figures,
        )
        return
    try:
        free, total = torch.cuda.mem_get_info(index)
        torch.ones(2, device=f"cuda:{index}").sum().item()
    except Exception as error:  # whatever the driver says
        yield Finding(
            "gpu-not-usable",
            "fault",
            f"GPU {index} ({name}) cannot compute: {reason(error)}.",
            "See whether another process holds it (nvidia-smi), or restart the machine",
            figures,
        )
        return
    figures |= {"free_bytes": free, "total_bytes": total}
    bf16 = "with" if capability >= (8, 0) else "without"
    words = (
        f"GPU {index}: {name}, {gib(free)} of {gib(total)} free, {bf16} bfloat16; torch {torch.__version__} runs on it."
    )
    if free < total / 2:
        yield Finding(
            "gpu-in-use", "doubt", f"{words} Another process holds the rest.", "See which: nvidia-smi", figures
        )
    else:
        yield Finding("gpu", "good", words, figures=figures)
