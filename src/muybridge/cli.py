"""The command line: one command a job, each a thin skin over the Python API.

Results go to standard output, everything else to standard error. `--json` prints one JSON document instead. What a
person can mend is said in a line and exits with 2; Ctrl-C exits with 130.
"""

import io
import json
import os
import sys
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge import __version__
from muybridge.errors import Interrupted, UserError
from muybridge.launch import launched
from muybridge.text import plural, printable

app = typer.Typer(
    name="muybridge",
    help="Video action recognition: train many architectures under one protocol, compare them honestly, use the best.\n\n"
    "Start with [bold]muybridge demo[/bold], or with a folder of videos: "
    "[bold]muybridge prepare FOLDER --out set.csv[/bold], then "
    "[bold]muybridge compare --data set.csv --models tsn_resnet_tiny,tsm_resnet_tiny --out study[/bold].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.FIELD=VALUE", help="Change a field of the recipe or (runtime.FIELD) of the runtime."
    ),
]
Data = Annotated[Path | None, typer.Option("--data", metavar="MANIFEST", help="A manifest that `prepare` wrote.")]
AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code", help="Run the code that a run or recipe names for its model. Only for those you trust."
    ),
]
MaxPixels = Annotated[int, typer.Option(help="Larger frames are not decoded (width times height).")]
MaxFrames = Annotated[int, typer.Option(help="Longer videos are not decoded.")]
MaxSeconds = Annotated[float, typer.Option(help="Decoding one file may take so long.")]
MaxMemory = Annotated[float, typer.Option("--max-memory-gib", help="Memory that decoding one file may take.")]


ShortSide = Annotated[
    int, typer.Option(min=0, metavar="PIXELS", help="Scale frames to this short side; 0: keep their size.")
]
Fps = Annotated[
    float | None, typer.Option(help="Keep so many frames a second (a video with fewer keeps all); none: every frame.")
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Threads; none: one a core.")]
Pretrained = Annotated[
    str | None,
    typer.Option(
        metavar="WEIGHTS",
        help="Start from public weights (imagenet, kinetics400, hub), a run folder, a file, or a URL; all must fit.",
    ),
]
Init = Annotated[
    str | None,
    typer.Option(
        metavar="WEIGHTS", help="Start from as much of such weights as agrees; says what came and what did not."
    ),
]
Shorten = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE", help="Shorten the schedule as a whole (epochs, warm-up, milestones, hours): 0.1, say."
    ),
]
NumFrames = Annotated[int | None, typer.Option(min=1, help="Frames of a clip; none: what suits the model.")]
Size = Annotated[int | None, typer.Option(min=1, help="Height and width, pixels; none: what suits the model.")]
TemporalPooling = Annotated[bool, typer.Option("--temporal-pooling", help="Halve time three times inside the network.")]


LIMITS: dict[str, Any] = {"pixels": 2**26, "frames": 2_000_000, "seconds": 1800.0, "memory_gib": 4.0}
"""Those of `muybridge.video.limits.Limits`, which a test holds equal: the command line starts without NumPy."""


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Where videos, runs and the report go; none: demo, or demo-quick.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the videos and of the training.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A taste in under a minute: fewer videos, two models.")
    ] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """From nothing to an answer: make real video files, train five architectures under one recipe, write the report.

    Most classes differ only in the direction of time: which architectures can tell?
    """
    with _answering(as_json):
        from muybridge import demo as job

        changes, runtime = _changes(settings)
        study = job.demo(
            out or Path("demo-quick" if quick else "demo"), seed=seed, quick=quick, changes=changes, runtime=runtime
        )
        _answer_study(study, as_json)


@app.command()
def motions(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder.")],
    clips: Annotated[int, typer.Option(help="How many videos.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Threads; none: one a core.")] = None,
    as_json: Json = False,
) -> None:
    """Make a data set of real video files in which most classes differ only in the direction of time."""
    with _answering(as_json):
        from muybridge.data.motions import motions as job

        prepared = job(folder, clips=clips, seed=seed, jobs=jobs)
        _answer(as_json, prepared.as_json, lambda: _print_prepared(prepared))


@app.command()
def prepare(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[FOLDER]", help="One subfolder a class, with video files or folders of images."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="MANIFEST", help="The manifest to write, a .csv file.")] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Columns path,label and optionally group,split,start,end (seconds)."),
    ] = None,
    arrays: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Clips (N,T,H,W,3) in a .npy or .npz, instead of a folder.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="… a label a clip, .npy.")] = None,
    groups: Annotated[Path | None, typer.Option(metavar="FILE", help="… a source a clip, .npy.")] = None,
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names for labels that are numbers: a line a class.")
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            metavar="FOLDERS",
            help="What the folders above a video mean, from the top: class, split/class, group/class, class/group, -/class; "
            "auto: class, or split/class where they are called train, val, test.",
        ),
    ] = "auto",
    group: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help="What in a path names its source (person, recording); its first parenthesis."
        ),
    ] = None,
    train_list: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="An official split: a line a video, with labels (path start end label) or without."
        ),
    ] = None,
    val_list: Annotated[
        Path | None, typer.Option(metavar="FILE", help="… its validation part, if there is one.")
    ] = None,
    test_list: Annotated[Path | None, typer.Option(metavar="FILE", help="… its test part.")] = None,
    folds: Annotated[int | None, typer.Option(metavar="K", help="K test folds instead of one test split.")] = None,
    all_as: Annotated[
        str | None,
        typer.Option(
            "--all", metavar="SPLIT", help="Every video is in this split: test, say, for a set to evaluate on."
        ),
    ] = None,
    val: Annotated[float, typer.Option(help="Share for validation, cut from train by group.")] = 0.15,
    test: Annotated[float, typer.Option(help="Share for the test.")] = 0.2,
    min_frames: Annotated[int, typer.Option(min=1, help="Shorter videos are left out, and listed.")] = 4,
    image_fps: Annotated[float, typer.Option(help="Frame rate of images and arrays, which say none.")] = 25.0,
    mirror: Annotated[
        str, typer.Option(help="What mirroring does to a label: same, off, or auto (left and right swap).")
    ] = "auto",
    max_pixels: MaxPixels = LIMITS["pixels"],
    max_frames: MaxFrames = LIMITS["frames"],
    max_seconds: MaxSeconds = LIMITS["seconds"],
    max_memory: MaxMemory = LIMITS["memory_gib"],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes that decode; none: one a core.")] = None,
    as_json: Json = False,
) -> None:
    """Look at every video once, list what is broken, split without leaks, write a manifest."""
    with _answering(as_json):
        from muybridge.data.prepare import prepare as job

        if out is None:
            raise UserError("prepare needs --out MANIFEST, the .csv file to write")
        prepared = job(
            folder, out=out, csv=csv, arrays=arrays, labels=labels, groups=groups, classes=classes, layout=layout,
            group=group, train_list=train_list, val_list=val_list, test_list=test_list, folds=folds, all_as=all_as,
            val=val, test=test, min_frames=min_frames, image_fps=image_fps, mirror=mirror, seed=seed, jobs=jobs,
            limits=_limits(max_pixels, max_frames, max_seconds, max_memory),
        )  # fmt: skip
        _answer(as_json, prepared.as_json, lambda: _print_prepared(prepared))


@app.command()
def pack(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest that `prepare` wrote.")],
    out: Annotated[
        Path, typer.Option(metavar="PACK", help="The folder to write; it stands wherever a manifest stands.")
    ],
    short_side: ShortSide = 256,
    fps: Fps = None,
    codec: Annotated[
        str, typer.Option(help="jpeg: fastest; h264: about a fifth of the bytes, a third of the speed.")
    ] = "jpeg",
    quality: Annotated[
        int | None, typer.Option(help="JPEG's quality (1 to 100, usually 90), or H.264's CRF (0 to 51, usually 23).")
    ] = None,
    jobs: Jobs = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate bytes and time; write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Rewrite a set for training: few large files in which every frame is read at once. The same recipes see the same
    frames. A stopped call goes on when it is repeated; a finished pack is checked."""
    with _answering(as_json):
        from muybridge.data.pack import pack as job

        packed = job(
            manifest, out=out, short_side=short_side or None, fps=fps, codec=codec, quality=quality, jobs=jobs,
            dry_run=dry_run,
        )  # fmt: skip
        _answer(as_json, packed.as_json, lambda: _print_packed(packed))


@app.command()
def frames(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest that `prepare` wrote.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write: DIR/VIDEO/00001.jpg …")],
    short_side: ShortSide = 256,
    fps: Fps = None,
    quality: Annotated[int, typer.Option(help="JPEG's quality, 1 to 100.")] = 90,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Write frames as folders of JPEGs with a manifest and the lists (`path start end label`) that other tools read. For
    training here a pack is as fast and keeps a set in few files."""
    with _answering(as_json):
        from muybridge.data.frames import frames as job

        written = job(manifest, out=out, short_side=short_side or None, fps=fps, quality=quality, jobs=jobs)

        def show() -> None:
            _say(
                f"{written.videos} videos, {written.frames} frames, {written.bytes / 2**20:.1f} MiB in "
                f"{written.seconds:.0f} s: {written.path} (train with --data {written.path})"
            )

        _answer(as_json, written.as_json, show)


@app.command()
def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A shipped recipe, mine.py:function, or RUN/recipe.json.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A name from `muybridge models`, or module:function.")] = None,
    data: Data = None,
    fold: Annotated[int | None, typer.Option(help="Which fold of the manifest.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="The run folder to make.")] = None,
    pretrained: Pretrained = None,
    init: Init = None,
    shorten: Shorten = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Continue a run that was stopped.")] = None,
    checkpoint: Annotated[
        str, typer.Option(help="With --resume: from last, best, or a step's; what came after it is forgotten.")
    ] = "last",
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Train a model. Ctrl-C saves; --resume continues, to the same bits as if never stopped.

    Several GPUs or machines: torchrun --nproc-per-node N -m muybridge train …
    """
    with _answering(as_json):
        from muybridge import api
        from muybridge.runs import Run

        changes, runtime = _changes(settings)
        _typed(model, recipe, allow_code=allow_code)
        if resume is not None:
            given = {
                "RECIPE": recipe, "--model": model, "--fold": fold, "--out": out, "--pretrained": pretrained,
                "--init": init, "--set": changes, "--shorten": shorten,
            }  # fmt: skip
            extra = [name for name, value in given.items() if value]
            if extra:
                raise UserError(f"--resume continues a run as it was begun; {extra[0]} does not go with it")
            run = api.resume(
                resume, checkpoint=checkpoint, data=data, allow_code=allow_code,
                runtime=_runtime(settings, Run.open(resume).runtime()),
            )  # fmt: skip
        else:
            if checkpoint != "last":
                raise UserError("--checkpoint says where --resume continues from; it needs --resume RUN")
            if out is None:
                raise UserError("train needs --out RUN, the folder to make (or --resume RUN)")
            run = api.train(
                recipe, model=model, data=data, fold=fold, out=out, pretrained=pretrained, init=init,
                changes=changes, shorten=shorten, allow_code=allow_code, runtime=runtime,
            )  # fmt: skip
        _answer(
            as_json, lambda: {"run": str(run.path), **run.result()}, lambda: _print_result(str(run.path), run.result())
        )


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN|FILE.npz", help="A run, or scores that --out has written.")],
    data: Data = None,
    split: Annotated[
        str | None,
        typer.Option(help="test (if none is named; val, if there is no test), val, or train: training accuracy."),
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Which fold of --data.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="last or best; none: what the recipe says.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the per-view scores here (.npz).")] = None,
    average: Annotated[
        str | None, typer.Option(help="Over a video's views: logits or probabilities; none: what the recipe says.")
    ] = None,
    views_curve: Annotated[
        bool, typer.Option("--views-curve", help="Also the figures of fewer clips and crops, from the same scores.")
    ] = False,
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Score a run: clip and video accuracy, with as many views as you like (--set evaluation.num_clips=10). Or all figures
    again of scores that were written, without the model."""
    with _answering(as_json):
        from dataclasses import replace

        from muybridge.scores import Scores, figures

        if average not in (None, "logits", "probabilities"):
            raise UserError(f"--average is logits or probabilities, not '{average}'")
        if run.suffix == ".npz":
            given = {
                "--data": data, "--split": split, "--fold": fold, "--checkpoint": checkpoint, "--out": out,
                "--set": settings, "--allow-code": allow_code,
            }  # fmt: skip
            extra = [name for name, value in given.items() if value]
            if extra:
                raise UserError(f"{run} holds scores, made by then; {extra[0]} goes with a run")
            scores = Scores.load(run)
            scores = replace(scores, average=average or scores.average)  # type: ignore[arg-type]
        else:
            from muybridge import api

            changes, runtime = _changes(settings)
            if average is not None:
                changes["evaluation.average"] = average
            scores = api.evaluate(
                run, data=data, split=split, fold=fold, checkpoint=checkpoint, changes=changes, out=out,
                allow_code=allow_code, runtime=runtime,
            )  # fmt: skip
        value: dict[str, Any] = {"run": str(run), scores.split or "scores": figures(scores), "average": scores.average}
        if scores.num_trained_on:
            value["training_accuracy"] = True
        if views_curve:
            value["views_curve"] = _views_curve(scores)
        _answer(as_json, lambda: value, lambda: _print_evaluated(value, scores))


@app.command()
def diagnose(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN… | STUDY", help="Run folders, or a study's folder.")],
    data: Data = None,
    split: Annotated[str | None, typer.Option(help="test (or val, if there is no test), val, or train.")] = None,
    fold: Annotated[int | None, typer.Option(help="Which fold of --data.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="last or best; none: what the recipe says.")] = None,
    video: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID|PATH", help="Also where and when the model looks in this video of the split; may be repeated."
        ),
    ] = None,
    grid: Annotated[int, typer.Option(min=1, help="… by hiding cells of a frame, so many a side.")] = 8,
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Does the model use time? Score a run on shuffled, reversed, held and thinned frames; written to RUN/diagnosis.

    With --json one object, or for several runs a list of them.
    """
    with _answering(as_json):
        from muybridge import diagnosis as job
        from muybridge.results.comparison import find_runs

        changes, runtime = _changes(settings)
        found, _ = find_runs(runs)
        for run in found:
            job.check_finished(run)
        diagnoses = [
            job.diagnose(
                run, data=data, split=split, fold=fold, checkpoint=checkpoint, changes=changes, videos=video or (),
                grid=grid, allow_code=allow_code, runtime=runtime,
            )
            for run in found
        ]  # fmt: skip
        values = [{"run": str(diagnosis.run.path), **diagnosis.as_json()} for diagnosis in diagnoses]
        _answer(as_json, lambda: values if len(values) > 1 else values[0], lambda: _print_diagnoses(values))


@app.command()
def compare(
    data: Annotated[
        list[str], typer.Option("--data", metavar="MANIFEST", help="A manifest that `prepare` wrote; may be repeated.")
    ],
    out: Annotated[Path, typer.Option(metavar="STUDY", help="Where runs and the report go.")],
    models: Annotated[str | None, typer.Option(metavar="A,B,…", help="Names from `muybridge models`.")] = None,
    study: Annotated[
        str | None,
        typer.Option(
            help="study_2021, mini, pretraining, transfer, equal_time, or mine.py:function; none: the models by one recipe."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS=VALUE,…", help="Only these runs of a study (num_frames=8,16); may be repeated."),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="The protocol: a recipe as `train` takes it.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds a model.")] = 1,
    folds: Annotated[str | None, typer.Option(metavar="1,2,…", help="Folds of the manifest; none: all it has.")] = None,
    tune: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="TRIALS",
            help="Before: as many trials for each model, on val, of learning rate and weight decay.",
        ),
    ] = 0,
    pretrained: Pretrained = None,
    init: Init = None,
    shorten: Shorten = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Also measure speed and memory of every setting, for the report.")
    ] = False,
    diagnose: Annotated[
        bool, typer.Option("--diagnose", help="Also score every run with its frames in other orders, for the report.")
    ] = False,
    title: Annotated[str | None, typer.Option(help="Title of the report.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs; train nothing.")] = False,
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Train models × seeds × folds under one protocol, or the runs of a study, score all alike, write the report. A
    finished run is not run again, a stopped one goes on."""
    with _answering(as_json):
        from muybridge import api
        from muybridge.recipes.plan import parse_only

        changes, runtime = _changes(settings)
        _typed(*_list(models or ""), recipe, study, allow_code=allow_code)
        made = api.plan(
            _list(models) if models is not None else None,
            data=[path for paths in data for path in ([paths] if Path(paths).exists() else _list(paths))],
            study=study, recipe=recipe, seeds=seeds, only=parse_only(only or []),
            folds=[_number(fold, "--folds") for fold in _list(folds)] if folds else None,
            pretrained=pretrained, init=init, changes=changes, shorten=shorten, title=title, allow_code=allow_code,
        )  # fmt: skip
        if dry_run:
            made = api.dry_run(made, out=out, tune=tune, runtime=runtime)
            trials = {"trials": dict.fromkeys(made.settings(), tune)} if tune else {}
            _answer(as_json, lambda: made.as_json() | trials, lambda: _print_plan(made, tune))
        else:
            done = api.run(made, out=out, tune=tune, measure=measure, diagnose=diagnose, runtime=runtime)
            _answer_study(done, as_json)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN… | STUDY", help="Run folders, or a study's folder.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The HTML file; none: in the study's folder.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the report.")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[DATA=]SET",
            help="Show published results, as such: mini_ssv2, mini_kinetics, mini_moments, kinetics400, kinetics5, ucf101, "
            "hmdb51, ucf11.",
        ),
    ] = None,
    pair: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Two rows to hold against each other, by class and video; none: the two best."
        ),
    ] = None,
    no_frames: Annotated[bool, typer.Option("--no-frames", help="Show no frames of videos.")] = False,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write the report of finished runs: one HTML file that works offline; beside it the same as Markdown, JSON, CSV, SVG
    and PNG."""
    with _answering(as_json):
        from muybridge.results.comparison import compared_runs, compared_study, find_runs
        from muybridge.results.record import StudyRecord
        from muybridge.results.report import Report

        found, folder = find_runs(runs)
        if folder is None:
            comparisons, target = compared_runs(found), out or Path("report.html")
        else:
            record = StudyRecord.load(folder)
            comparisons, target = compared_study(record), out or folder / "report.html"
            title = title or record.title
        names = None if pair is None else _list(pair)
        known = dict(one.partition("=")[::2] for one in beside or [])
        besides = beside[0] if beside and not any(known.values()) else known or None
        made = Report.of(comparisons, title=title, beside=besides, pair=names, with_frames=not no_frames)
        made.write(target)
        if open_it:
            webbrowser.open(target.resolve().as_uri())
        _answer(as_json, lambda: _report_json(target, comparisons), lambda: _print_report(target, comparisons))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN")],
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO…")],
    top: Annotated[int, typer.Option(min=1, help="How many labels.")] = 5,
    window_seconds: Annotated[
        float | None,
        typer.Option(help="Cut videos into windows; 0: never. None: those far longer than the training videos."),
    ] = None,
    max_pixels: MaxPixels = LIMITS["pixels"],
    max_frames: MaxFrames = LIMITS["frames"],
    max_seconds: MaxSeconds = LIMITS["seconds"],
    max_memory: MaxMemory = LIMITS["memory_gib"],
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Label videos with a run, by the same code as the evaluation, each as soon as it is done; a long video gives time-stamped
    windows. A file that cannot be read is told, and the others are labelled."""
    with _answering(as_json):
        from muybridge.predict import Predictor
        from muybridge.video import DecodeError

        changes, runtime = _changes(settings)
        if changes:
            raise UserError(f"predict uses the run's own recipe; '{next(iter(changes))}' cannot be set, runtime.… can")
        limits = _limits(max_pixels, max_frames, max_seconds, max_memory)
        found: list[Any] = []
        failed: list[DecodeError] = []
        with Predictor(run, runtime=runtime, allow_code=allow_code, limits=limits) as predictor:
            for _, answer in predictor.each(videos, top=top, window_seconds=window_seconds):
                if isinstance(answer, DecodeError):
                    failed.append(answer)
                    if not as_json:
                        _say(f"error: {answer}", err=True)
                else:
                    found += answer
                    if not as_json:
                        _print_predictions(answer)
        value = {
            "run": str(run),
            "predictions": [prediction.as_json() for prediction in found],
            "failed": [{"path": error.path, "reason": error.reason} for error in failed],
        }
        if as_json and failed and not found:
            raise failed[0]
        _answer(as_json, lambda: value, lambda: None)
        if as_json:
            for error in failed:
                _say(f"error: {error}", err=True)
        if failed:
            raise typer.Exit(2)


@app.command()
def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One model, layer by layer; none: list all.")
    ] = None,
    num_classes: Annotated[int, typer.Option(min=1, help="Classes.")] = 10,
    num_frames: NumFrames = None,
    size: Size = None,
    temporal_pooling: TemporalPooling = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """List every model with the smallest usual input it takes; or one model's layers for one clip.

    (--set model.options.NAME=VALUE gives a model its options.)
    """
    with _answering(as_json):
        if name is None and num_frames is None:
            rows = _known_models(num_classes)
            _answer(as_json, lambda: {"num_classes": num_classes, "models": rows}, lambda: _print_models(rows))
            return

        from muybridge.measure import layers, listing, natural_input, outline

        if name is None:
            rows = listing(num_classes=num_classes, num_frames=num_frames)
            _answer(as_json, lambda: {"num_classes": num_classes, "models": rows}, lambda: _print_models(rows))
            return
        _typed(name)
        options, _ = _model_options(settings)
        frames, side = natural_input(name, temporal_pooling=temporal_pooling, **options)
        frames, side = num_frames or frames, size or side
        model = outline(name, num_classes=num_classes, num_frames=frames, temporal_pooling=temporal_pooling, **options)
        found = layers(model, num_frames=frames, size=side)
        value = {
            "model": name, "num_classes": num_classes, "num_frames": frames, "size": side,
            "temporal_pooling": temporal_pooling,
            **{key: sum(getattr(layer, key) for layer in found) for key in ("params", "conv_macs", "macs")},
        }  # fmt: skip
        _answer(
            as_json,
            lambda: {**value, "layers": [layer.as_json() for layer in found]},
            lambda: _print_layers(value, found),
        )


@app.command()
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="One recipe in full, as `train` takes it; none: list the shipped ones."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List every shipped recipe with its source and the result that this publishes; or every field of one."""
    with _answering(as_json):
        from muybridge import recipes as shipped

        if name is None:
            known = [shipped.about(name) for name in shipped.SHIPPED]
            _answer(as_json, lambda: {"recipes": [vars(about) for about in known]}, lambda: _print_recipes(known))
            return
        recipe = shipped.load(name)
        about = shipped.about(name) if name in shipped.SHIPPED else None
        value = {**(vars(about) if about else {"name": name}), "recipe": recipe.model_dump()}
        _answer(as_json, lambda: value, lambda: _print_recipe(recipe, about))


@app.command()
def measure(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME|RUN|STUDY", help="Models as `train` takes them, or folders of runs or studies."),
    ],
    num_classes: Annotated[int | None, typer.Option(min=1, help="Classes; none: 10.")] = None,
    num_frames: NumFrames = None,
    size: Size = None,
    temporal_pooling: TemporalPooling = False,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Clips at a time; none: 8.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="auto (bf16 where the hardware has it), fp32, bf16; none: auto.")
    ] = None,
    no_speed: Annotated[bool, typer.Option("--no-speed", help="Only count.")] = False,
    largest: Annotated[
        bool | None,
        typer.Option(
            "--largest/--no-largest",
            help="Search for the largest batch, which takes longest; neither: for names, not for runs.",
        ),
    ] = None,
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """What models cost: parameters, multiply-adds of a clip, clips a second, memory, the largest batch.

    With --json one object, or for several models a list of them. (--set model.options.NAME=VALUE gives a model its
    options, --set runtime.threads=N so many threads.)

    A run is measured as its recipe trains it, and the answer kept in its speed.json; of a study, one finished run of every
    setting is. Peak memory is that of training: on CUDA what tensors take, on a CPU of the whole process, without what it
    takes before there is a model.
    """
    with _answering(as_json):
        from muybridge import speed
        from muybridge.measure import count, natural_input
        from muybridge.models import entries
        from muybridge.recipe import replace

        options, runtime = _model_options(settings)
        runtime = replace(runtime, {"device": device})
        models = {entry.name for entry in entries()}
        runs = {name: _runs_of(Path(name)) for name in names if name not in models and _is_a_place(name)}
        _typed(*(name for name in names if name not in runs))
        given = {
            "--num-classes": num_classes, "--num-frames": num_frames, "--size": size, "--batch-size": batch_size,
            "--temporal-pooling": temporal_pooling, "--precision": precision, "--set model.options": options,
        }  # fmt: skip
        extra = [option for option, value in given.items() if value]
        if runs and extra:
            raise UserError(f"{next(iter(runs))} is measured as it was trained; {extra[0]} goes with names of models")
        rows: list[dict[str, Any]] = []
        for name in names:
            for run in runs.get(name, ()):
                row = {"run": str(run.path), **run.cost()}
                if not no_speed:
                    found = speed.measure_run(run, runtime=runtime, largest=bool(largest), allow_code=allow_code)
                    row |= found.as_json()
                rows.append(row)
            if name in runs:
                continue
            frames, side = natural_input(name, temporal_pooling=temporal_pooling, **options)
            clip = {"num_classes": num_classes or 10, "num_frames": num_frames or frames, "size": size or side}
            row = count(name, **clip, temporal_pooling=temporal_pooling, **options).as_json()
            if not no_speed:
                row |= speed.measure(
                    name, **clip, temporal_pooling=temporal_pooling, batch_size=batch_size or 8,
                    precision=precision or "auto", runtime=runtime, options=options, largest=largest is not False,
                ).as_json()  # fmt: skip
            rows.append(row)
        _answer(as_json, lambda: rows if len(rows) > 1 else rows[0], lambda: _print_measured(rows))


@app.command()
def runs(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER", help="Where to look, at any depth (not in hidden folders); none: here."),
    ] = None,
    state: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Only the runs in these states (finished,stopped, say).")
    ] = None,
    trials: Annotated[bool, typer.Option("--trials", help="Also the trials of searches (`compare --tune`).")] = False,
    as_json: Json = False,
) -> None:
    """List runs, and where each stands: finished; training (a process is at it); stopped (`muybridge train --resume RUN`
    goes on); begun (nothing is saved yet); or damaged (standard error says why).

    Epochs are those that are done, and of a stopped run saved; the accuracy is the test's, or where that is still to come
    the last on val.
    """
    with _answering(as_json):
        from muybridge.errors import nearest
        from muybridge.runs import STATES, find, standing

        wanted = _list(state) if state is not None else list(STATES)
        for name in wanted:
            if name not in STATES:
                raise UserError(f"--state takes states of runs, not '{name}'. {nearest(name, STATES)}")

        def tell(error: OSError) -> None:
            _say(f"warning: {error.filename} cannot be looked into: {error.strerror}", err=True)

        places = folders or [Path(".")]
        found = {run.path.resolve(): run for place in places for run in find(place, unreadable=tell)}
        listed = [run for run in found.values() if trials or not run.is_trial]
        known = [about for about in map(standing, listed) if about.state in wanted]
        rows = sorted((_run_row(about) for about in known), key=lambda row: Path(row["path"]).parts)
        for row in rows:
            if row["reason"]:
                _say(f"damaged: {row['reason']}", err=True)
        left_out = len(found) - len(listed)
        if not rows:
            kind = "" if state is None else f" {' or '.join(wanted)}"
            _say(f"No{kind} runs below {', '.join(map(str, places))}", err=True)
        _answer(as_json, lambda: {"runs": rows, "left_out": left_out}, lambda: _print_runs(rows, left_out))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"muybridge {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """(Nothing is imported from the folder where the user stands, unless they name it: `user_code.from_here`.)"""


def _check_place() -> None:
    """Raises UserError where the user stands in a folder that is gone: half of all libraries would say so in their own way."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError(
            "the folder that you stand in is gone (deleted, renamed?): go to another, and call again"
        ) from None


@contextmanager
def _answering(as_json: bool) -> Iterator[None]:
    """Errors for people: one line, exit 2; with --json the document says it too."""
    try:
        _check_place()
        yield
    except Interrupted as stopped:
        _fail(as_json, str(stopped), 130)
    except KeyboardInterrupt:
        _fail(as_json, "stopped", 130)
    except UserError as error:
        _fail(as_json, str(error), 2)
    except BrokenPipeError:  # `muybridge models | head`: who listened has heard enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except MemoryError as error:
        _fail(as_json, f"this asks for more memory than there is{f': {error}' if str(error) else ''}", 2)
    except OSError as error:  # a full disk, a folder that may not be written
        _fail(as_json, f"{error.filename or 'the system'}: {error.strerror or error}", 2)


_answered: list[bool] = []


def _fail(as_json: bool, message: str, code: int) -> None:
    _answered.append(True)
    rank = launched().rank
    if rank and code == 130:  # the first process says it
        raise typer.Exit(code)
    message = f"process {rank}: {message}" if rank else message
    if as_json:
        with suppress(OSError):  # it may be standard output that is full
            typer.echo(json.dumps({"error": message}))
    _say(message if code == 130 else f"error: {message}", err=True)
    raise typer.Exit(code)


def _answer(as_json: bool, value: Callable[[], Any], show: Callable[[], None]) -> None:
    _answered.append(True)
    if launched().rank > 0:  # of several processes the first speaks
        return
    if as_json:
        typer.echo(json.dumps(value(), indent=2))
    else:
        show()


def _changes(settings: list[str] | None) -> tuple[dict[str, Any], Any]:
    """--set for the recipe, and the runtime with its own."""
    from muybridge.recipe import Runtime, parse_overrides

    changes = {n: value for n, value in parse_overrides(settings or []).items() if not n.startswith("runtime.")}
    return changes, _runtime(settings, Runtime())


def _runtime(settings: list[str] | None, base: Any) -> Any:
    """A runtime with --set runtime.FIELD put in."""
    from muybridge.recipe import parse_overrides, replace

    parsed = parse_overrides(settings or [])
    return replace(base, {n.removeprefix("runtime."): v for n, v in parsed.items() if n.startswith("runtime.")})


def _model_options(settings: list[str] | None) -> tuple[dict[str, Any], Any]:
    """--set model.options.NAME for a model, and the runtime."""
    changes, runtime = _changes(settings)
    prefix = "model.options."
    others = [name for name in changes if not name.startswith(prefix)]
    if others:
        raise UserError(f"'{others[0]}' cannot be set here; {prefix}NAME and runtime.FIELD can")
    return {name.removeprefix(prefix): value for name, value in changes.items()}, runtime


def _is_a_place(name: str) -> bool:
    """Is it a folder, or what could only be one, and no model's name?"""
    return Path(name).is_dir() or (os.sep in name and ":" not in name)


def _runs_of(path: Path) -> list[Any]:
    """A run; or of a study the first finished run of every setting. What is not finished is said."""
    from muybridge.console import log
    from muybridge.recipes.plan import repeat_name
    from muybridge.results.record import StudyRecord
    from muybridge.runs import Run

    if not (path / "study.json").exists():
        return [Run.open(path)]
    record = StudyRecord.load(path)
    left_out = [name for name in record.runs if not record.run(name).is_finished]
    if len(left_out) == len(record.runs):
        raise UserError(f"No run of the study {path} is finished; one run alone: {path / 'runs' / 'NAME'}")
    if left_out:
        log(f"{path}: left out, as not finished: {', '.join(left_out)}")
    settings: dict[str, Run] = {}
    for name in record.runs:
        if name not in left_out:
            recipe = record.run(name).recipe()
            settings.setdefault(name.removesuffix(repeat_name("", recipe.seed, recipe.data.fold)), record.run(name))
    return list(settings.values())


def _known_models(num_classes: int) -> list[dict[str, Any]]:
    """What `muybridge.measure.listing` finds, from the table that is shipped with it: without torch, at once."""
    rows: list[dict[str, Any]] = json.loads((Path(__file__).parent / "models" / "table.json").read_text())
    for row in rows:
        row["params"] += num_classes * row.pop("params_per_class")
    return rows


def _limits(pixels: int, frames: int, seconds: float, memory_gib: float) -> Any:
    from muybridge.video.limits import Limits

    return Limits(pixels=pixels, frames=frames, seconds=seconds, memory_gib=memory_gib)


def _typed(*names: str | None, allow_code: bool = False) -> None:
    """The user has named these models, recipes and studies where they stand: code among them may run, and is looked for
    there, too."""
    from muybridge.user_code import from_here, look_here

    for name in filter(None, names):
        if ".py:" in name:
            look_here()
        elif not name.endswith(".json") and not Path(name).is_dir():
            from_here(name)
    if allow_code:
        look_here()


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(text: str, option: str) -> int:
    if not text.isdigit():
        raise UserError(f"{option} takes numbers, not '{text}'")
    return int(text)


def _answer_study(study: Any, as_json: bool) -> None:
    _answer(
        as_json,
        lambda: {"study": str(study.path), **_report_json(study.report, study.comparisons)},
        lambda: _print_report(study.report, study.comparisons),
    )


def _report_json(path: Path, comparisons: Mapping[str, Any]) -> dict[str, Any]:
    from muybridge.results.report import document

    return {"report": str(path), **document(comparisons)}


def _print_report(path: Path, comparisons: Mapping[str, Any]) -> None:
    from muybridge.results.findings import findings

    for name, comparison in comparisons.items():
        if len(comparisons) > 1:
            _say(f"\n{name}")
        header, lines = comparison.table()
        _table(header, lines, numeric=tuple(range(1, len(header))))
        for line in (*findings(comparison), *comparison.notes):
            _say(line)
    _say(f"report: {path}")


def _print_plan(plan: Any, trials: int) -> None:
    listed = plan.as_json()
    lines = [
        [run["name"], run["starts_from"] or "–", "–" if run["epochs"] is None else str(run["epochs"]),
         "–" if run["max_hours"] is None else f"{run['max_hours']:g}"]
        for run in listed["runs"]
    ]  # fmt: skip
    _table(["run", "starts from", "epochs", "hours at most"], lines, numeric=(2, 3))
    count, settings = len(lines), len(plan.settings())
    before = f"; before that, {trials} trials for each of {settings} settings" if trials else ""
    _say(f"{listed['title']}: {plural(count, 'run')}{before}")


def _print_models(rows: list[dict[str, Any]]) -> None:
    lines = [
        [r["name"], r["family"], f"{r['num_frames']}x{r['size']}", f"{r['params'] / 1e6:.2f} M", r["paper"]]
        for r in rows
    ]
    _table(["model", "family", "input", "parameters", "paper"], lines, numeric=(3,))


def _print_recipes(known: list[Any]) -> None:
    names: dict[tuple[str, str, str], list[str]] = {}  # several recipes may be one function's
    for about in known:
        names.setdefault((about.summary, about.source, about.published), []).append(about.name)
    lines = [["\n".join(those), *texts] for texts, those in names.items()]
    _table(["recipe", "what it trains", "source", "published"], lines)


def _print_recipe(recipe: Any, about: Any) -> None:
    from muybridge.recipe import diff, flat

    if about is not None:
        _say(f"{about.name}: {about.summary}\nSource: {about.source}\nPublished: {about.published}")
    changed = diff(type(recipe)(), recipe)
    lines = [[name, json.dumps(value), "" if name in changed else "default"] for name, value in flat(recipe).items()]
    _table(["field", "value", ""], lines)


def _run_row(about: Any) -> dict[str, Any]:
    """What is known of a run; its path as seen from where one stands, if it lies below."""
    from muybridge.recipes.plan import data_name

    path, recipe = about.run.path.absolute(), about.recipe
    here = Path.cwd()
    return {
        "path": str(path.relative_to(here) if path.is_relative_to(here) else about.run.path),
        "name": path.resolve().name,
        "model": recipe and recipe.model.name,
        "data": recipe and data_name(recipe.data.manifest),
        "seed": recipe and recipe.seed,
        "fold": recipe and recipe.data.fold,
        "state": about.state,
        "epoch": about.epoch,
        "epochs": about.epochs,
        "max_hours": recipe and recipe.stop.max_hours,
        "split": about.split,
        "video_top1": about.video_top1,
        "train_seconds": about.train_seconds,
        "changed": about.changed and about.changed.isoformat(timespec="seconds"),
        "reason": about.reason or None,
    }


def _print_runs(rows: list[dict[str, Any]], left_out: int) -> None:
    def hours(seconds: float) -> str:
        return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}"

    def done(row: dict[str, Any]) -> str:
        if row["epochs"] is None and row["max_hours"] is not None:
            return f"{row['epoch']} ({hours(row['train_seconds'])} of {hours(3600 * row['max_hours'])} h)"
        return f"{row['epoch']} of {row['epochs']}"

    def cells(row: dict[str, Any]) -> dict[str, str]:
        top1 = row["video_top1"]
        known = {
            "run": row["path"], "model": row["model"], "data": row["data"], "seed": row["seed"], "fold": row["fold"],
            "state": row["state"], "epoch": None if row["epoch"] is None else done(row),
            "video top-1": None if top1 is None else f"{top1:.3f} {row['split']}",
            "trained for": None if row["train_seconds"] is None else hours(row["train_seconds"]),
            "changed": row["changed"] and row["changed"][:16].replace("T", " "),
        }  # fmt: skip
        if all(row["fold"] is None for row in rows):
            known.pop("fold")
        return {name: "–" if value is None else str(value) for name, value in known.items()}

    if rows:
        lines = [cells(row) for row in rows]
        header = list(lines[0])
        numbers = tuple(header.index(name) for name in ("seed", "fold", "epoch", "trained for") if name in header)
        _table(header, [list(line.values()) for line in lines], numeric=numbers)
    if left_out:
        _say(f"trials of searches, left out: {left_out} (--trials lists them, too)")


def _print_layers(total: dict[str, Any], layers: list[Any]) -> None:
    lines = [
        [
            layer.name or "(the model)",
            layer.kind,
            "x".join(map(str, layer.shape)),
            f"{layer.params:,}",
            f"{layer.macs:,}",
        ]
        for layer in layers
    ]
    lines.append(["", "", "", f"{total['params']:,}", f"{total['macs']:,}"])
    _table(["layer", "kind", "output", "parameters", "MACs"], lines, numeric=(3, 4))
    _say(
        f"{total['model']}: one clip of {total['num_frames']}x{total['size']}x{total['size']}, "
        f"{total['num_classes']} classes; {total['conv_macs']:,} of the multiply-adds are convolutions'"
    )


def _print_measured(rows: list[dict[str, Any]]) -> None:
    def number(value: float | None, unit: float = 1.0, digits: int = 1) -> str:
        return "-" if value is None else f"{value / unit:.{digits}f}"

    lines = [
        [
            r.get("run", r["model"]), f"{r['num_frames']}x{r['size']}", number(r["params"], 1e6, 2) + " M",
            number(r["conv_macs"], 1e9, 2) + " G", number(r["macs"], 1e9, 2) + " G",
        ]
        for r in rows
    ]  # fmt: skip
    _table(["model", "input", "parameters", "conv MACs", "MACs"], lines, numeric=(2, 3, 4))
    timed = [r for r in rows if "device" in r]
    if not timed:
        return
    lines = [
        [
            r.get("run", r["model"]), str(r["batch_size"]), number(r["forward_clips_per_s"]),
            number(r["train_clips_per_s"]), number(r["peak_memory_bytes"], 2**20, 0) + " MiB",
            number(r["max_batch_size"], digits=0),
            number(r["max_batch_forward_clips_per_s"]), number(r["max_batch_train_clips_per_s"]),
        ]
        for r in timed
    ]  # fmt: skip
    header = [
        "model",
        "batch",
        "forward clips/s",
        "training clips/s",
        "peak memory",
        "largest batch",
        "forward",
        "training",
    ]
    _table(header, lines, numeric=tuple(range(1, len(header))))
    first = timed[0]
    _say(f"{first['device']} ({first['device_name']}), {first['dtype']}, {plural(first['threads'], 'thread')}")


SCREEN_LINES = 6
"""Of each kind that `prepare` prints."""


def _print_prepared(prepared: Any) -> None:
    from muybridge.data.prepare import rejected_file

    for warning in prepared.warnings[:SCREEN_LINES]:
        _say(f"warning: {warning}", err=True)
    if len(prepared.warnings) > SCREEN_LINES:
        _say(f"… and {plural(len(prepared.warnings) - SCREEN_LINES, 'more warning')} (--json has all)", err=True)
    for rejected in prepared.rejected[:SCREEN_LINES]:
        _say(f"rejected: {rejected['path']}: {rejected['reason']}", err=True)
    if len(prepared.rejected) > SCREEN_LINES:
        more = f"{len(prepared.rejected) - SCREEN_LINES} more"
        _say(f"… and {more}; all are in {rejected_file(prepared.manifest)}", err=True)
    lines = [
        [name, *(str(counts.get(split, 0)) for split in ("train", "val", "test", "unused"))]
        for name, counts in list(prepared.splits.items())[:SCREEN_LINES]
    ]
    _table(["split", "train", "val", "test", "unused"], lines, numeric=(1, 2, 3, 4))
    if len(prepared.splits) > SCREEN_LINES:
        _say(f"… and {len(prepared.splits) - SCREEN_LINES} more folds")
    groups = f", {plural(prepared.groups, 'group')}" if prepared.groups else ""
    counts_text = f"{plural(prepared.videos, 'video')}, {plural(len(prepared.classes), 'class')}{groups}"
    _say(f"{counts_text}, {len(prepared.rejected)} rejected: {prepared.manifest}")
    if prepared.mirror is None:
        _say("mirroring is off: no left-right flips in training")
    elif prepared.mirror:
        swaps = [f"{a} ↔ {b}" for a, b in prepared.mirror.items() if a <= b]
        more = f" and {len(swaps) - SCREEN_LINES} more" if len(swaps) > SCREEN_LINES else ""
        _say(
            f"mirroring swaps {', '.join(swaps[:SCREEN_LINES])}{more}; the other classes stay as they are (--mirror off: never "
            "mirror)"
        )


def _print_packed(packed: Any) -> None:
    size = f"{packed.bytes / 2**20:.1f} MiB in {packed.files} file(s)"
    counts = f"{packed.rows} clips of {packed.videos} videos, {packed.frames} frames"
    if not packed.finished:
        _say(f"{counts}: about {size}, {packed.seconds:.0f} s")
        return
    _say(f"{counts}, {size}, {packed.seconds:.0f} s: {packed.path}")
    _say(
        f"checked: every byte was read again; PSNR against the source {packed.psnr_db['mean']:.1f} dB, at the least "
        f"{packed.psnr_db['least']:.1f} dB"
    )
    _say(f"train with --data {packed.path}")


FIGURES = {
    "video_top1": "video top-1", "video_top5": "video top-5", "video_top10": "video top-10", "clip_top1": "clip top-1",
    "mean_class": "mean class", "kinetics_error": "Kinetics error",
}  # fmt: skip
"""Headers of what an evaluation counts, in order."""


def _print_result(run: str, result: dict[str, Any]) -> None:
    splits = {name: result[name] for name in ("train", "val", "test", "unused", "scores") if name in result}
    known = [name for name in FIGURES if any(name in figures for figures in splits.values())]
    lines = []
    for split, figures in splits.items():
        seen = figures.get("trained_on")
        name = f"{split} (training accuracy: {seen:.0f} of {figures['videos']:.0f} trained on)" if seen else split
        views = f"{figures['views']:.0f} view{'s' if figures['views'] > 1 else ''}"
        lines.append([name, *_figure_cells(figures, known), f"{figures['videos']:.0f}", views])
    header = ["split", *(FIGURES[name] for name in known), "videos", "of"]
    _table(header, lines, numeric=tuple(range(1, len(header) - 1)))
    skipped = result.get("skipped") or sum(figures.get("skipped", 0) for figures in splits.values())
    if skipped:
        _say(f"{skipped} video(s) could not be read and were left out")
    _say(run)


def _figure_cells(figures: dict[str, float], names: list[str]) -> list[str]:
    """Shares as 0.123, the error as 12.3 %."""
    shown = {name: f"{figures[name]:.3f}" for name in names if name in figures}
    if "kinetics_error" in shown:
        shown["kinetics_error"] = f"{figures['kinetics_error']:.1f} %"
    return [shown.get(name, "-") for name in names]


def _views_curve(scores: Any) -> dict[str, Any]:
    from muybridge.scores import views_curve

    rows = views_curve(scores)
    num_clips, num_crops = scores.known_grid().left_out()
    return {"rows": rows, "left_out": {"num_clips": num_clips, "num_crops": num_crops}}


def _print_evaluated(value: dict[str, Any], scores: Any) -> None:
    _print_result(value["run"], value)
    grid = scores.grid
    if grid is not None:
        _say(f"mean {scores.average} of {grid.num_clips} {grid.sampling} clip(s) × {grid.num_crops} crop(s)")
    if "views_curve" not in value:
        return
    rows, left_out = value["views_curve"]["rows"], value["views_curve"]["left_out"]
    known = [name for name in FIGURES if name in rows[0] and name != "clip_top1"]
    lines = [[str(row["num_clips"]), str(row["num_crops"]), *_figure_cells(row, known)] for row in rows]
    header = ["clips", "crops", *(FIGURES[name] for name in known)]
    _table(header, lines, numeric=tuple(range(len(header))))
    for name, what in (("num_clips", "clips"), ("num_crops", "crops")):
        if left_out[name]:
            numbers = ", ".join(map(str, left_out[name]))
            _say(f"left out, as their views are not among these: {numbers} {what}")


def _print_diagnoses(values: list[dict[str, Any]]) -> None:
    for value in values:
        _print_diagnosis(value)


def _print_diagnosis(value: dict[str, Any]) -> None:
    from muybridge.data.sampling import ORDERS

    accuracy, largest = value["accuracy"], value["largest_change"]
    lines = [["ordered", f"{accuracy['ordered']:.3f}", "", ""]]
    for order in ORDERS[1:]:
        change = accuracy[order] - accuracy["ordered"]
        lines.append([order, f"{accuracy[order]:.3f}", f"{change:+.3f}", f"{largest[order]:.2g}"])
    _table(["frames", "accuracy", "change", "largest change of a score"], lines, numeric=(1, 2, 3))
    lines = []
    for name, shares in value["per_class"].items():
        taken_for, count = next(iter(value["reversed_as"][name].items()))
        cells = [str(shares["videos"]), *(f"{shares[order]:.3f}" for order in ORDERS)]
        lines.append([name, *cells, f"{taken_for} ({count})"])
    header = ["class", "videos", *ORDERS, "reversed, mostly taken for"]
    _table(header, lines, numeric=tuple(range(1, len(header) - 1)))
    if value["pairs"]:
        names = ("ordered_within", "shuffled_within", "reversed_partner")
        lines = [
            [" ↔ ".join(pair["classes"]), str(pair["videos"]), *(f"{pair[name]:.3f}" for name in names)]
            for pair in value["pairs"]
        ]
        header = ["pair", "videos", "right within, ordered", "shuffled", "reversed, taken for the partner"]
        _table(header, lines, numeric=(1, 2, 3, 4))
    for finding in value["findings"]:
        _say(finding)
    kind = " (training accuracy)" if value["split"] == "train" else ""
    _say(f"{value['run']}: {value['videos']} videos of {value['split']}{kind}, {value['views']} view(s) each")


def _print_predictions(found: list[Any]) -> None:
    for prediction in found:
        _say(f"{prediction.path}  {_clock(prediction.start_seconds)} – {_clock(prediction.end_seconds)}")
        for label, score in zip(prediction.labels, prediction.scores, strict=True):
            _say(f"  {score:6.3f}  {label}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes):02d}:{rest:05.2f}"


def _table(header: list[str], lines: list[list[str]], *, numeric: tuple[int, ...] = ()) -> None:
    from muybridge.table import table

    typer.echo(table(header, lines, numeric=numeric))


def _say(text: str, *, err: bool = False) -> None:
    """A line for a person; names in it stay text, whatever they are made of."""
    typer.echo(printable(text), err=err)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal has no letter for is written as an escape
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as ended:
        if ended.code == 2 and "--json" in sys.argv and not _answered:  # words that no command understands
            typer.echo(json.dumps({"error": "usage: see standard error, or --help"}))
        raise


if __name__ == "__main__":
    main()
