"""The parts of cuda.py, each of which is one process: `python cuda_parts.py part JOB`. What is written is a JSON document."""

import contextlib
import copy
import faulthandler
import functools
import importlib.metadata
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import nn

import muybridge
from muybridge import build
from muybridge.analysis.published import published
from muybridge.data.loader import ahead_on_device
from muybridge.data.sets.motions import motions
from muybridge.data.views import Batch
from muybridge.recipe import Augment, Clip, Evaluation, Model, Optim, Recipe, Runtime, replace, to_json
from muybridge.runtime.device import Placement, find_device, has_bf16, placement, to_device
from muybridge.runtime.files import write_json
from muybridge.runtime.launch import module_process
from muybridge.storage.run import Run
from muybridge.studies import demo as demo_job
from muybridge.training.speed import LARGEST, largest_batch, measure_model
from muybridge.training.step import mean_loss, training_step
from muybridge.zoo import VideoModel, WeightedLogits, create, entries
from muybridge.zoo.count import count, natural_input
from muybridge.zoo.families import BACKBONES, METHODS
from muybridge.zoo.heads import HEADS

CLASSES = 10
BOUND = 1e-3
"""Largest relative difference of logits, and of the gradients' norm, from the CPU's."""
NEAR = 0.1
"""Largest relative difference of a mean loss from that of fp32."""


class Part:
    """What a part was asked for, and what it has found so far."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self.quick: bool = job["quick"]
        self.device_name: str = job["device"]
        self.folder = Path(job.get("folder", ".")) / job.get("part", "")
        self._name, self._since, self._until = job.get("part", ""), job.get("since", 0.0), job.get("until", 0.0)
        self._file = Path(job["out"]) if "out" in job else None
        self.found: dict[str, Any] = {"checks": [], "left_out": [], "error": None}

    @property
    def device(self) -> torch.device:
        return find_device(self.device_name)

    @property
    def on_cuda(self) -> bool:
        return self.device_name.startswith("cuda")

    def at(self, text: str) -> None:
        """Say and keep what is being done."""
        elapsed = time.time() - self._since
        print(f"[{elapsed:5.0f} s] {self._name}: {text}", file=sys.stderr, flush=True)
        self.found["doing"] = text
        self.save()

    def check(self, name: str, ok: bool, detail: str) -> None:
        self.found["checks"].append({"name": name, "ok": bool(ok), "detail": detail})

    def row(self, **values: Any) -> None:
        self.found.setdefault("rows", []).append(values)
        self.save()

    def leave_out(self, what: str, why: str) -> None:
        self.found["left_out"].append({"what": what, "why": why})

    def seconds_left(self) -> float:
        return self._until - time.time()

    def has_time(self, what: str, *, seconds: float) -> bool:
        """Is so much time left? What there is none for is noted."""
        if self.seconds_left() >= seconds:
            return True
        self.leave_out(what, f"{max(0.0, self.seconds_left()):.0f} s of the part's time were left")
        return False

    def save(self) -> None:
        if self._file is not None:
            write_json(self._file, self.found)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(
    step: Callable[[], Any], device: torch.device, *, repetitions: int, warm: int = 2, patience: float = 6
) -> float:
    """Median seconds of a step."""
    for _ in range(warm):
        step()
    seconds: list[float] = []
    while len(seconds) < repetitions and sum(seconds) < patience:
        synchronise(device)
        started = time.perf_counter()
        step()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def made_batch(clips: int, num_frames: int, size: int, *, seed: int = 0, device: torch.device | None = None) -> Batch:
    """Random pixels, labels and flips."""
    draw = torch.Generator(device or "cpu").manual_seed(seed)
    shape = (clips, num_frames, size, size, 3)
    return Batch(
        torch.randint(0, 256, shape, dtype=torch.uint8, device=device, generator=draw),
        torch.randint(0, CLASSES, (clips,), device=device, generator=draw),
        torch.randint(0, 2, (clips,), device=device, generator=draw).bool(), None, tuple(range(clips)),
    )  # fmt: skip


class Trainee:
    """A network as `train` has it, for clips of one size. `channels_last` False: in torch's own memory format."""

    def __init__(
        self, part: Part, name: str, *, precision: str, num_frames: int, size: int, num_classes: int = CLASSES,
        temporal_pooling: bool = False, channels_last: bool = True, deterministic: bool = True,
    ) -> None:  # fmt: skip
        model = Model(name=name, temporal_pooling=temporal_pooling, pretrained=None)
        self.recipe = Recipe(
            clip=Clip(num_frames=num_frames, size=size), model=model, optim=Optim(lr=0.01), precision=precision
        )
        self.where = build.placement(self.recipe, Runtime(device=part.device_name, deterministic=deterministic))
        torch.manual_seed(0)
        self.model = build.model(self.recipe, num_classes, pretrained=False)
        self.net: nn.Module | None = None
        if channels_last:
            to_device(self.model, self.where)
        else:
            self.model.to(self.where.device)
            self.net = _Contiguous(self.model)
        self.optimizer = build.optimizer(self.recipe, self.model)
        self.scaler = self.where.scaler()
        self.model.train()

    def step(self, batch: Batch) -> tuple[float, int]:
        return training_step(
            self.model, self.optimizer, batch, self.where, self.recipe, net=self.net, scaler=self.scaler
        )

    def seconds(self, clips: int, *, train: bool, repetitions: int, warm: int = 2) -> float:
        """Median, on one batch that lies on the device."""
        batch = made_batch(clips, self.recipe.clip.num_frames, self.recipe.clip.size, device=self.where.device)
        if train:
            self.model.train()
            return timed(lambda: self.step(batch), self.where.device, repetitions=repetitions, warm=warm)
        self.model.eval()
        x_BCTHW = _as_input(self.model, batch.clips_BTHWC)

        def forward() -> None:
            with torch.inference_mode(), self.where.autocast():
                self.model(x_BCTHW)

        return timed(forward, self.where.device, repetitions=repetitions, warm=warm)


def _as_input(model: VideoModel, clips_BTHWC: torch.Tensor) -> torch.Tensor:
    from muybridge.data import inputs

    return inputs.find(inputs.DEFAULT).to_model(
        clips_BTHWC, None, mean=model.preprocessing.mean, std=model.preprocessing.std
    )


class _Contiguous(nn.Module):
    """The network on clips in torch's own memory format."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner = model

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        return self.inner(x_BCTHW.contiguous())


# --- environment ---


def environment(part: Part) -> None:
    part.at("versions")
    about: dict[str, Any] = {
        "muybridge": muybridge.__version__, "Python": sys.version.split()[0], "torch": torch.__version__,
        "numpy": np.__version__, "platform": platform.platform(), "CPU cores": os.cpu_count(),
        "CPU threads of torch": torch.get_num_threads(), "CPU kernels": torch.backends.cpu.get_cpu_capability(),
    }  # fmt: skip
    for name in ("av", "simplejpeg", "triton", "altair", "vl-convert-python"):
        try:
            about[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            about[name] = "absent"
    part.found["environment"] = about
    part.at("device")
    about["device"] = str(part.device)
    if part.on_cuda:
        properties = torch.cuda.get_device_properties(part.device)
        free, total = torch.cuda.mem_get_info(part.device)
        about |= {
            "GPU": properties.name, "compute capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count, "memory, GiB": round(total / 2**30, 1),
            "memory free, GiB": round(free / 2**30, 1), "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(), "driver and clocks": _nvidia_smi(),
        }  # fmt: skip
        part.check("memory is free", free > 0.9 * total, f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB")
    else:
        part.leave_out("GPU, driver, memory, CUDA, cuDNN", "only CUDA has them")
    about["bf16 in hardware"] = has_bf16(part.device)


def _nvidia_smi() -> str:
    query = "driver_version,clocks.max.sm,clocks.max.memory,power.limit,persistence_mode"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi: {error}"
    return (done.stdout or done.stderr).strip()


# --- answers ---


def answers(part: Part) -> None:
    grid = {f"{method}_{backbone}" for method in (*METHODS, *HEADS) for backbone in BACKBONES}
    originals = [entry.name for entry in entries() if entry.name not in grid and entry.name not in HEADS]
    if part.quick:
        kept = ["x3d_s", "slowfast_resnet50_4x16", "cnn_lstm"]
        part.leave_out(", ".join(name for name in originals if name not in kept), "--quick")
        originals = kept
    small = [
        (f"{method}_resnet_tiny", pooling)
        for method in METHODS
        for pooling in ((False,) if part.quick else (False, True))
    ]
    small += [(f"{head}_resnet_tiny", False) for head in HEADS]
    others = [] if part.quick else [("tsn_inceptionv1", False), ("tsn_inceptionv3", False), ("tsn_vgg16", False)]
    where = placement(part.device_name, precision="fp32", threads=None)
    torch.set_warn_always(True)
    for name, pooling in [*small, *((name, False) for name in originals), *others]:
        shown = name + (" with temporal pooling" if pooling else "")
        if not part.has_time(shown, seconds=4):
            continue
        part.at(shown)
        try:
            row = compared(name, where, temporal_pooling=pooling)
        except Exception:
            part.check(shown, False, traceback.format_exc(limit=-4))
            continue
        part.row(**{**row, "model": shown})
        worst = max(row["logits_relative"], row["gradient_norm_relative"])
        detail = f"{worst:.1e} from the CPU's, relatively"
        if row["gradient_norm_to_float64"]:
            detail += ", and from the gradient in fp64: device {:.1e}, CPU {:.1e}".format(
                *row["gradient_norm_to_float64"]
            )
        part.check(f"{shown}: answers", worst <= BOUND, detail)
        part.check(f"{shown}: repeats", row["repeats"], "two passes differ in their bits")


def compared(name: str, where: Placement, *, temporal_pooling: bool) -> dict[str, Any]:
    """One network on the device and on the CPU: the same weights, the same clips."""
    num_frames, size = natural_input(name, temporal_pooling=temporal_pooling)
    torch.manual_seed(0)
    on_cpu = create(name, num_classes=CLASSES, num_frames=num_frames, temporal_pooling=temporal_pooling, dropout=0.0)
    for module in on_cpu.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    x_BCTHW = torch.randn(on_cpu.zeros(num_frames, size, batch_size=2).shape)
    labels_B = torch.tensor([1, 7])
    on_device = copy.deepcopy(on_cpu)
    to_device(on_device, where)
    theirs, their_gradients = _logits(on_cpu, x_BCTHW), _gradients(on_cpu, x_BCTHW, labels_B)
    x_BCTHW, labels_B = x_BCTHW.to(where.device), labels_B.to(where.device)
    x_BCTHW = x_BCTHW.contiguous(memory_format=torch.channels_last_3d)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ours, again = _logits(on_device, x_BCTHW), _logits(on_device, x_BCTHW)
        gradients = _gradients(on_device, x_BCTHW, labels_B)
        gradients_again = _gradients(on_device, x_BCTHW, labels_B)
    pairs = zip(gradients, gradients_again, strict=True)
    norm, their_norm = _norm(gradients), _norm(their_gradients)
    difference = _norm([a - b for a, b in zip(gradients, their_gradients, strict=True)])
    absolute = float((ours - theirs).abs().max())
    to_float64 = None
    if max(absolute / float(theirs.abs().max()), abs(norm - their_norm) / their_norm) > BOUND:  # whose error is it?
        exact = _norm(_gradients(on_cpu.double(), x_BCTHW.cpu().double(), labels_B.cpu()))
        to_float64 = [abs(norm - exact) / exact, abs(their_norm - exact) / exact]
    return {
        "num_frames": num_frames, "size": size, "logits_absolute": absolute,
        "logits_relative": absolute / float(theirs.abs().max()), "gradient_norm": their_norm,
        "gradient_norm_absolute": abs(norm - their_norm), "gradient_norm_relative": abs(norm - their_norm) / their_norm,
        "gradient_relative": difference / their_norm, "gradient_norm_to_float64": to_float64,
        "repeats": torch.equal(ours, again) and all(torch.equal(a, b) for a, b in pairs),
        "nondeterministic": sorted({
            words[1] for warning in said
            if (words := re.match(r"(\S+) does not have a deterministic", str(warning.message)))
        }),
    }  # fmt: skip


def _logits(net: VideoModel, x_BCTHW: torch.Tensor) -> torch.Tensor:
    net.eval()
    with torch.inference_mode():
        out = net(x_BCTHW)
    return (out.logits_NBK[0] if isinstance(out, WeightedLogits) else out).double().cpu()


def _gradients(net: VideoModel, x_BCTHW: torch.Tensor, labels_B: torch.Tensor) -> list[torch.Tensor]:
    net.train()
    net.zero_grad(set_to_none=True)
    out = net(x_BCTHW)
    weighted = out if isinstance(out, WeightedLogits) else WeightedLogits(out[None], out.new_ones(1))
    mean_loss(weighted, labels_B).backward()
    return [p.grad.double().cpu() for p in net.parameters() if p.grad is not None]


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    return float(torch.stack([tensor.square().sum() for tensor in tensors]).sum().sqrt())


# --- resume ---


def resume(part: Part) -> None:
    part.at("making videos")
    manifest = motions(part.folder / "set", clips=60 if part.quick else 200, seed=3).manifest
    cases: list[tuple[str, str, tuple[str, ...]]] = [("tsm_resnet_tiny", "fp32", ())]
    if part.quick:
        part.leave_out("bf16 and fp16, decoding processes, a repeated run", "--quick")
    else:
        workers = ("runtime.num_workers=2", "runtime.cache_gib=0")
        cases += [
            ("i3d_resnet_tiny", "bf16", workers),
            ("tam_resnet_tiny", "fp16", ()),
            ("i3d_resnet_tiny", "fp32", ()),
        ]
    ways = ("whole", "killed") if part.quick else ("whole", "killed", "again")
    processes: dict[tuple[int, str], subprocess.Popen[bytes]] = {}
    folders = [part.folder / f"{number}-{name}-{precision}" for number, (name, precision, _) in enumerate(cases)]
    commands = []
    for (name, precision, settings), folder in zip(cases, folders, strict=True):
        folder.mkdir(parents=True)
        recipe = Recipe(
            clip=Clip(num_frames=4 if part.quick else 8, size=32 if part.quick else 64),
            augment=Augment(crop="multiscale"), model=Model(name=name, dropout=0.5),
            optim=Optim(lr=0.02, batch_size=16, epochs=4 if part.quick else 6, clip_grad_norm=5.0),
            evaluation=Evaluation(num_clips=2, num_crops=3), precision=precision,
        )  # fmt: skip
        recipe = replace(recipe, {"data.manifest": str(manifest)})
        (folder / "recipe.json").write_text(to_json(recipe))
        every = ("runtime.checkpoint_steps=2", f"runtime.device={part.device_name}", *settings)
        commands.append([str(folder / "recipe.json"), *(word for change in every for word in ("--set", change))])
    part.at(f"{len(cases) * len(ways)} trainings, of which {len(cases)} are killed")
    try:
        for number, folder in enumerate(folders):
            for way in ways:
                processes[number, way] = _train([*commands[number], "--out", str(folder / way)], folder / f"{way}.log")
        waiting = set(range(len(cases)))
        while waiting and part.seconds_left() > 5:
            for number in sorted(waiting):
                victim = processes[number, "killed"]
                if victim.poll() is None and (folders[number] / "killed" / "checkpoints" / "last").exists():
                    victim.send_signal(signal.SIGKILL)
                    victim.wait()
                waiting -= {number} if victim.poll() is not None else set()
            time.sleep(0.005)
        killed_at = [
            Run(folder / "killed").saved_step() if (folder / "killed" / "checkpoints" / "last").exists() else None
            for folder in folders
        ]
        was_killed = [processes[n, "killed"].poll() == -signal.SIGKILL for n in range(len(cases))]
        part.at("resuming")
        for number, folder in enumerate(folders):
            processes[number, "resumed"] = _train(["--resume", str(folder / "killed")], folder / "resumed.log")
        for process in processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):  # then it has failed
                process.wait(max(0.1, part.seconds_left() - 1))
    finally:
        for process in processes.values():
            process.kill()
    for number, ((name, precision, _), folder) in enumerate(zip(cases, folders, strict=True)):
        shown = f"{name}, {precision}"
        failed = [
            way for (n, way), process in processes.items() if n == number and way != "killed" and process.poll() != 0
        ]
        if failed:
            part.check(shown, False, f"{failed[0]} failed: {(folder / f'{failed[0]}.log').read_text()[-2000:]}")
            continue
        expected, resumed = everything(Run(folder / "whole")), everything(Run(folder / "killed"))
        again = everything(Run(folder / "again")) if "again" in ways else None
        row = {
            "model": name, "precision": precision, "killed_at_step": killed_at[number],
            "steps": Run(folder / "whole").result()["steps"], "files": len(expected),
            "resumed_differs": _differing(expected, resumed),
            "repeated_differs": None if again is None else _differing(expected, again),
        }  # fmt: skip
        part.row(**row)
        part.check(f"{shown}: was killed", was_killed[number], "it had ended before")
        part.check(f"{shown}: resumed to the same bits", not row["resumed_differs"], str(row["resumed_differs"]))
        if again is not None:
            part.check(f"{shown}: repeated to the same bits", not row["repeated_differs"], str(row["repeated_differs"]))


def _train(words: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    process = module_process("muybridge")
    with log.open("wb") as file:
        return subprocess.Popen(
            [*process["args"], "train", *words], env=process["env"], stdout=subprocess.DEVNULL, stderr=file
        )


def everything(run: Run) -> dict[str, bytes]:
    """What must be equal when two runs are the same: weights, optimiser, metrics, scores."""
    files = [run.metrics_file, *run.path.glob("scores/*.npz")]
    for which in ("last", "best"):
        folder = run.checkpoints / (run.checkpoints / which).read_text()
        files += [folder / "model.safetensors", folder / "optimizer.safetensors"]
    return {str(file.relative_to(run.path)): file.read_bytes() for file in files}


def _differing(expected: Mapping[str, bytes], found: Mapping[str, bytes]) -> list[str]:
    return [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]


# --- precisions ---


def precisions(part: Part) -> None:
    names = ("tsm_resnet_tiny",) if part.quick else ("tsm_resnet18", "i3d_resnet18")
    means: dict[tuple[str, str], float] = {}

    def judged(name: str, way: str, found: dict[str, Any]) -> None:
        means[name, way] = found["mean_loss"]
        ratio = found["mean_loss"] / means[name, "fp32"] if (name, "fp32") in means else None
        part.row(model=name, way=way, mean_to_fp32=ratio, **found)
        near = ratio is not None and abs(ratio - 1) <= NEAR
        part.check(f"{name}, {way}", found["finite"] and near, f"losses {found['losses']}, mean {ratio} times fp32's")

    for way in ("fp32", "bf16", "fp16"):
        for name in names:
            part.at(f"{name}, {way}")
            try:
                judged(name, way, _losses(part, name, way, compiled=False))
            except Exception:
                part.check(f"{name}, {way}", False, traceback.format_exc(limit=-3))
    if part.quick and not part.on_cuda:
        part.leave_out("compiled networks", "--quick")
        return
    part.at(f"{' and '.join(names)}, bf16, compiled")
    processes = {name: _own_process("compiled", part, name=name) for name in names}
    for name, process in processes.items():
        way, why = "bf16, compiled", "it took longer than the part may"
        try:
            judged(name, way, json.loads(process.communicate(timeout=max(1.0, part.seconds_left() - 1))[0]))
        except (subprocess.TimeoutExpired, ValueError) as error:
            if isinstance(error, ValueError):
                why = "torch cannot compile it; standard error has the reason"
            part.leave_out(f"{name}, {way}", why)
        finally:
            process.kill()


def _own_process(what: str, part: Part, **more: Any) -> "subprocess.Popen[str]":
    """Another process of this file."""
    job = {"device": part.device_name, "quick": part.quick, **more}
    environ = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    return subprocess.Popen(
        [sys.executable, "-P", __file__, what, json.dumps(job)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env=environ,
    )  # fmt: skip


def answer_compiled(job: Mapping[str, Any]) -> None:
    """A process that compiles a network and prints what its losses are."""
    answers = _own_answers()
    print(json.dumps(_losses(Part(job), job["name"], "bf16", compiled=True)), file=answers, flush=True)


def _own_answers() -> TextIO:
    """Standard output, which nothing else writes to."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _losses(part: Part, name: str, precision: str, *, compiled: bool) -> dict[str, Any]:
    """Losses of a few steps, each on clips of its own."""
    frames, size, clips, steps = (4, 32, 4, 4) if part.quick else (8, 112, 16, 8)
    trainee = Trainee(part, name, precision=precision, num_frames=frames, size=size)
    if compiled:
        trainee.net = torch.compile(trainee.model)  # type: ignore[assignment]
    scale = trainee.scaler.get_scale()
    losses, seconds = [], []
    for step in range(steps):
        batch = made_batch(clips, frames, size, seed=step)
        torch.manual_seed(step)
        synchronise(trainee.where.device)
        started = time.perf_counter()
        losses.append(trainee.step(batch)[0] / clips)
        synchronise(trainee.where.device)
        seconds.append(time.perf_counter() - started)
    note = ""
    if trainee.scaler.is_enabled():
        note = f"the loss is scaled by {trainee.scaler.get_scale():g}, at first {scale:g}"
    return {
        "losses": losses, "first_loss": losses[0], "mean_loss": statistics.fmean(losses),
        "finite": bool(np.isfinite(losses).all()), "milliseconds": 1000 * statistics.median(seconds[1:]),
        "first_step_seconds": seconds[0], "note": note,
    }  # fmt: skip


# --- speed ---

PAIRED = ("tsn_resnet50", "tsm_resnet50", "tam_resnet50", "i3d_resnet50", "s3d_resnet50", "slowfast_resnet50")
TABLE_1 = (
    ("tsn_resnet50", True), ("tam_resnet50", False), ("i3d_resnet50", False), ("slowfast_resnet50", False),
    ("tsn_resnet50", False), ("tam_resnet50", True), ("i3d_resnet50", True), ("s3d_resnet50", False),
    ("s3d_inceptionv1", False),
)  # fmt: skip
"""Table 1 of the 2021 study first (it prints four), then the same networks with and without temporal pooling."""


def speed(part: Part) -> None:
    peaks: dict[str, dict[str, Any]] = {}
    part.found["peaks"] = peaks
    for precision in ("bf16", "fp32"):
        part.at(f"peak of {precision}")
        peaks[precision] = _peak(part, precision)
    if part.quick:
        rows = [("8 frames of 32²", name, False, "fp32", 8, 32, 2) for name in ("tsn_resnet_tiny", "i3d_resnet_tiny")]
        rows.append(("8 frames of 32²", "tsn_resnet_tiny", True, "bf16", 8, 32, 2))
        part.leave_out(", ".join(dict.fromkeys([*PAIRED, *(name for name, _ in TABLE_1)])), "--quick")
    else:
        rows = [("8 frames of 224²", name, False, "bf16", 8, 224, 32) for name in PAIRED]
        rows += [("32 frames of 256², as in table 1 of the 2021 study", *each, "bf16", 32, 256, 8) for each in TABLE_1]
        rows += [("8 frames of 224²", name, False, "fp32", 8, 224, 32) for name in PAIRED]
    if not part.on_cuda:
        part.leave_out("the largest batch", "a CPU refuses no memory; `muybridge measure` estimates it")
    for title, name, pooling, precision, num_frames, size, batch in rows:
        shown = f"{name}{' with temporal pooling' * pooling}, {precision}, {num_frames} x {size}²"
        if not part.has_time(shown, seconds=14 if part.on_cuda else 1):
            continue
        part.at(shown)
        try:
            row = _rates(part, name, pooling, precision, num_frames, size, batch, peaks[precision]["tflops"] * 1e12)
        except Exception:
            part.check(shown, False, traceback.format_exc(limit=-3))
            continue
        finally:
            if part.on_cuda:
                torch.cuda.empty_cache()
        part.row(table=title, **row)
        part.check(shown, row["train_clips_per_s"] is not None, f"a batch of {batch} does not fit")
    name = "tsn_resnet_tiny" if part.quick else "tsm_resnet50"
    if part.has_time(f"muybridge measure {name}", seconds=12):
        part.at(f"muybridge measure {name}")
        num_frames, size, batch = (8, 32, 2) if part.quick else (8, 224, 32)
        measured = measure_model(
            name, num_classes=CLASSES, num_frames=num_frames, size=size, batch_size=batch, repetitions=3, largest=False,
            precision="fp32" if part.quick else "bf16", runtime=Runtime(device=part.device_name),
        )  # fmt: skip
        part.found["measure_model"] = {"model": name, **measured.as_json()}


def _peak(part: Part, precision: str) -> dict[str, Any]:
    """Of one large matrix product of random numbers, TF32 off."""
    where = placement(part.device_name, precision=precision, threads=None, deterministic=False)
    size = 256 if part.quick else 8192
    dtype = where.autocast_dtype or torch.float32
    a, b = (torch.randn(size, size, device=where.device).to(dtype) for _ in range(2))
    seconds = timed(lambda: a @ b, where.device, repetitions=10, warm=3)
    return {"size": size, "tflops": 2 * size**3 / seconds / 1e12}


def _rates(
    part: Part, name: str, pooling: bool, precision: str, num_frames: int, size: int, batch: int, peak: float
) -> dict[str, Any]:
    kind = {"num_frames": num_frames, "size": size, "temporal_pooling": pooling}
    macs = count(name, num_classes=CLASSES, **kind).macs
    trainee = Trainee(part, name, precision=precision, **kind)
    repetitions = 1 if part.quick else 5
    fits = _Fits(trainee)
    small = max(1, batch // 4)
    train_seconds = fits.seconds(batch, train=True, repetitions=repetitions)
    peak_bytes = fits.peaks.get(batch)
    forward_seconds = fits.seconds(batch, train=False, repetitions=repetitions)
    placement(part.device_name, precision=precision, threads=None, deterministic=False)
    free_seconds = fits.seconds(batch, train=True, repetitions=repetitions)
    placement(part.device_name, precision=precision, threads=None)
    row: dict[str, Any] = {
        "model": name, "precision": precision, **kind, "macs": macs, "batch_size": batch,
        "forward_clips_per_s": _rate(batch, forward_seconds), "train_clips_per_s": _rate(batch, train_seconds),
        "free_train_clips_per_s": _rate(batch, free_seconds),
        "peak_gib": None if peak_bytes is None else peak_bytes / 2**30, "max_batch_size": None,
        "max_batch_train_clips_per_s": None, "max_batch_forward_clips_per_s": None,
        "published_v100_clips_per_s": _published_v100(name, pooling, num_frames), "refused": None,
    }  # fmt: skip
    for way, times in (("forward", 1), ("train", 3)):
        rate = row[f"{way}_clips_per_s"]
        row[f"{way}_peak_share"] = None if rate is None else 2 * macs * times * rate / peak
    if part.on_cuda and train_seconds is not None:
        fits.seconds(small, train=True, repetitions=1, warm=1)
        largest = fits.largest(small, batch)
        row["max_batch_size"], row["refused"] = largest, fits.refused
        row["max_batch_train_clips_per_s"] = _rate(largest, fits.seconds(largest, train=True, repetitions=2, warm=0))
        row["max_batch_forward_clips_per_s"] = _rate(largest, fits.seconds(largest, train=False, repetitions=2, warm=1))
    return row


class _Fits:
    """Times batches that may not fit, and keeps what they took."""

    def __init__(self, trainee: Trainee) -> None:
        self.trainee, self.device = trainee, trainee.where.device
        self.peaks: dict[int, int] = {}
        self.refused: str | None = None
        """Why the last one that did not fit was refused."""

    def seconds(self, batch: int, *, train: bool, repetitions: int, warm: int = 2) -> float | None:
        """None where it does not fit."""
        if self.device.type != "cuda":
            return self.trainee.seconds(batch, train=train, repetitions=repetitions, warm=1)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        try:
            seconds = self.trainee.seconds(batch, train=train, repetitions=repetitions, warm=warm)
        except RuntimeError as error:  # out of memory, or an index beyond 32 bits
            if "illegal" in str(error) or "device-side" in str(error):
                raise
            self.refused = f"{batch} clips: {str(error).splitlines()[0][:200]}"
            seconds = None
        if seconds is None:  # outside: the error holds tensors
            self.trainee.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            return None
        if train:
            self.peaks[batch] = torch.cuda.max_memory_allocated(self.device)
        return seconds

    def largest(self, small: int, known: int) -> int:
        """By a straight line through the memory of two batches; tried, and less where it is refused."""
        self.trainee.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        room = 0.96 * (torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device))
        a_clip = max(1.0, (self.peaks[known] - self.peaks[small]) / (known - small))
        batch = largest_batch(lambda clips: self.peaks[known] + a_clip * (clips - known) <= room, known, known)
        while batch > known and self.seconds(batch, train=True, repetitions=1, warm=1) is None:
            batch = max(known, batch * 9 // 10)
        return min(batch, LARGEST)


def _rate(batch: int, seconds: float | None) -> float | None:
    return None if seconds is None else batch / seconds


def _published_v100(name: str, pooling: bool, num_frames: int) -> float | None:
    method, _, backbone = name.partition("_")
    for row in published("kinetics400"):
        told = re.search(r"([\d.]+) clips/s on a V100", row.note or "")
        same = (row.method, row.backbone, bool(row.temporal_pooling)) == (method, backbone, pooling)
        if told and same and row.num_frames == num_frames:
            return float(told[1])
    return None


# --- settings ---

AS_TRAIN = {
    "cudnn_deterministic": True, "deterministic_algorithms": True, "fill_memory": True, "benchmark": False, "tf32": False,
    "channels_last": True, "item": True, "pinned": True, "ahead": True, "cublas_workspace": True,
}  # fmt: skip
"""The switches as `train` has them."""
NOT_REPEATABLE = {"cudnn_deterministic": False, "deterministic_algorithms": False}
WAYS: dict[str, dict[str, bool]] = {
    "as muybridge runs": {},
    "cudnn.deterministic off": {"cudnn_deterministic": False},
    "use_deterministic_algorithms off": {"deterministic_algorithms": False},
    "new memory not filled": {"fill_memory": False},
    "runtime.deterministic=false": NOT_REPEATABLE,
    "TF32 on": {"tf32": True},
    "not channels-last": {"channels_last": False},
    "no .item() at the end of a step": {"item": False},
    "memory not pinned": {"pinned": False},
    "no batch ahead": {"ahead": False},
    "neither pinned nor ahead": {"pinned": False, "ahead": False},
}
PROCESSES: dict[str, dict[str, bool]] = {
    "as muybridge runs": {},
    "no CUBLAS_WORKSPACE_CONFIG": {"cublas_workspace": False},
    "cudnn.benchmark on": {"benchmark": True},
    "runtime.deterministic=false": NOT_REPEATABLE,
    "runtime.deterministic=false, cudnn.benchmark on": {**NOT_REPEATABLE, "benchmark": True},
}
"""What a process takes once: cuBLAS reads its variable at the start, and cuDNN keeps the kernel that it chose first."""
ONLY_CUDA = ("cudnn_deterministic", "benchmark", "tf32", "pinned", "ahead", "fill_memory", "deterministic_algorithms")


class Course:
    """A network that trains on clips from the host, switches thrown one way or the other."""

    def __init__(self, part: Part, name: str, precision: str, num_frames: int, size: int, clips: int) -> None:
        kind = {"precision": precision, "num_frames": num_frames, "size": size}
        self.part = part
        self.trainees = {True: Trainee(part, name, **kind)}
        self._plain = lambda: Trainee(part, name, channels_last=False, **kind)
        batches = [made_batch(clips, num_frames, size, seed=seed) for seed in range(3)]
        self.batches = {False: batches, True: [b.pin_memory() for b in batches] if part.on_cuda else batches}

    def seconds(self, switches: Mapping[str, bool], steps: int) -> float:
        """Seconds of a step, mean of `steps` without a stop between them."""
        where = self.trainees[True].where
        if not switches["channels_last"] and False not in self.trainees:
            self.trainees[False] = self._plain()
        throw(switches, on_cuda=self.part.on_cuda)
        trainee = self.trainees[switches["channels_last"]]
        source: Iterator[Batch] = cycle(self.batches[switches["pinned"]])
        if switches["ahead"]:
            source = ahead_on_device(source, where.device)
        with contextlib.nullcontext() if switches["item"] else without_item():
            for _ in range(2):
                trainee.step(next(source))
            synchronise(where.device)
            started = time.perf_counter()
            for _ in range(steps):
                trainee.step(next(source))
            synchronise(where.device)
            return (time.perf_counter() - started) / steps


def throw(switches: Mapping[str, bool], *, on_cuda: bool) -> None:
    if not on_cuda:
        return
    cudnn = torch.backends.cudnn
    cudnn.deterministic, cudnn.benchmark = switches["cudnn_deterministic"], switches["benchmark"]
    cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = switches["tf32"]
    torch.use_deterministic_algorithms(switches["deterministic_algorithms"], warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = switches["fill_memory"]


@contextlib.contextmanager
def without_item() -> Iterator[None]:
    """Numbers on the device are not waited for: `.item()` and `int()` answer 0."""
    torch.Tensor.item = lambda self: 0.0  # type: ignore[method-assign, assignment]
    before = torch.Tensor.__int__ if "__int__" in vars(torch.Tensor) else None
    torch.Tensor.__int__ = lambda self: 0  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del torch.Tensor.item
        if before is None:
            del torch.Tensor.__int__
        else:
            torch.Tensor.__int__ = before  # type: ignore[method-assign]


def settings(part: Part) -> None:
    warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
    if part.quick:
        courses = [("tsm_resnet_tiny", "fp32", 4, 32, 2)]
    else:
        courses = [
            ("tsm_resnet50", "bf16", 8, 224, 16), ("i3d_resnet50", "bf16", 8, 224, 16), ("tsm_resnet18", "bf16", 8, 112, 8),
            ("tsm_resnet50", "fp32", 8, 224, 16), ("i3d_resnet50", "fp32", 8, 224, 16),
        ]  # fmt: skip
    if not part.on_cuda:
        part.leave_out(
            ", ".join(way for way, change in WAYS.items() if set(change) & set(ONLY_CUDA)), "only CUDA has it"
        )
    if part.has_time("settings of whole processes", seconds=25):
        _in_processes(part)
    for name, precision, num_frames, size, clips in courses:
        title = f"{name}, {precision}, {clips} clips of {num_frames} x {size}²"
        if not part.has_time(title, seconds=8):
            continue
        part.at(title)
        course = Course(part, name, precision, num_frames, size, clips)
        ways = {
            way: AS_TRAIN | change for way, change in WAYS.items()
            if (part.on_cuda or not set(change) & set(ONLY_CUDA)) and not ("tf32" in change and precision != "fp32")
        }  # fmt: skip
        _race(part, title, {way: functools.partial(course.seconds, switches, 4) for way, switches in ways.items()})
        del course
        if part.on_cuda:
            torch.cuda.empty_cache()


def _race(part: Part, title: str, ways: Mapping[str, Callable[[], float]]) -> None:
    """All ways in turn, the first round for nothing; medians, and median ratios to the first way in the same round."""
    rounds, started = (1 if part.quick else 5), time.perf_counter()
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(-1, rounds):
        if number > 1 and (time.perf_counter() - started) * (1 + 1 / (number + 1)) > part.seconds_left() / 2:
            break
        for way, run in ways.items():
            found = run()
            if number >= 0:
                seconds[way].append(found)
    first = seconds[next(iter(ways))]
    for way, found in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(found, first, strict=True))
        part.row(table=title, way=way, milliseconds=1000 * statistics.median(found), ratio=ratio, rounds=len(found))


def _in_processes(part: Part) -> None:
    """Processes that differ in what is set at their start; one computes at a time."""
    course = ("nln_resnet_tiny", "fp32", 4, 32, 2) if part.quick else ("nln_resnet50", "bf16", 8, 224, 16)
    names = dict(list(PROCESSES.items())[:2]) if part.quick else PROCESSES
    part.at(f"{len(names)} processes")
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for way, change in names.items():
            processes[way] = _own_process("course", part, course=course, switches=AS_TRAIN | change)

        def ask(way: str) -> float:
            stdin, stdout = processes[way].stdin, processes[way].stdout
            assert stdin is not None
            assert stdout is not None
            stdin.write("4\n")
            stdin.flush()
            return float(stdout.readline())

        name, precision, num_frames, size, clips = course
        title = f"processes of their own: {name}, {precision}, {clips} clips of {num_frames} x {size}²"
        _race(part, title, {way: functools.partial(ask, way) for way in names})
    except (BrokenPipeError, ValueError):
        part.check("settings of whole processes", False, "a process ended")
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def serve_course(job: Mapping[str, Any]) -> None:
    """A process of `_in_processes`: for each line a number of steps, the seconds of one."""
    part = Part(job)
    answers = _own_answers()
    warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
    course = Course(part, *job["course"])
    if not job["switches"]["cublas_workspace"]:
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    for line in sys.stdin:
        answers.write(f"{course.seconds(job['switches'], int(line))}\n")
        answers.flush()


# --- demo ---


def demo(part: Part) -> None:
    changes = {"optim.epochs": 1, "optim.warmup_epochs": 0.0} if part.quick else {}
    if part.quick:
        demo_job.QUICK_CLIPS = 60
        part.leave_out("1,000 clips, 9 epochs, and what accuracy they reach", "--quick")
    part.at("muybridge demo --quick")
    started = time.perf_counter()
    made = part.folder / "demo"
    muybridge.demo(made, quick=True, changes=changes, runtime=Runtime(device=part.device_name))
    part.found["wall_seconds"] = time.perf_counter() - started
    top1 = {}
    for path in sorted((made / "runs").iterdir()):
        run = Run(path)
        timing = run.timing()
        name = run.recipe().model.name
        top1[name] = run.result()["test"]["video_top1"]
        part.row(
            model=name, video_top1=top1[name], train_seconds=sum(line["train_seconds"] for line in timing),
            clips_per_s=timing[-1]["train_clips_per_s"], precision=run.recipe().precision,
        )  # fmt: skip
    part.check("the report is written", (made / "report.html").is_file(), "report.html is not there")
    if not part.quick:
        tsn, tam = (top1[name] for name in ("tsn_resnet_tiny", "tam_resnet_tiny"))
        part.check("TAM sees the direction of time, TSN does not", tam > tsn + 0.2, f"top-1 {tam:.3f} and {tsn:.3f}")


PARTS: dict[str, Callable[[Part], None]] = {
    "environment": environment, "answers": answers, "resume": resume, "precisions": precisions, "speed": speed,
    "settings": settings, "demo": demo,
}  # fmt: skip


def run_part(job: Mapping[str, Any]) -> None:
    part = Part(job)
    try:
        part.folder.mkdir(parents=True)
        PARTS[job["part"]](part)
    except BaseException:
        part.found["error"] = traceback.format_exc()
        print(part.found["error"], file=sys.stderr, flush=True)
    part.save()


if __name__ == "__main__":
    faulthandler.enable()
    {"part": run_part, "course": serve_course, "compiled": answer_compiled}[sys.argv[1]](json.loads(sys.argv[2]))
