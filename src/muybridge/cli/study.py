"""Commands that compare: `demo`, `compare`, `report`, `judge`."""

import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import (
    AllowCode,
    Epochs,
    Init,
    Json,
    LostAfter,
    Pretrained,
    Settings,
    Shorten,
    Steps,
    allow_named,
    pairs,
    parse_number,
    parse_share,
    parsed_settings,
    split_list,
)
from muybridge.cli.output import answer, answering, say, table
from muybridge.cli.work import answer_planned
from muybridge.text import duration, plural


def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder for videos, runs and report; none: demo, or demo-quick.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the videos and of the training.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Finish in half a minute: fewer videos, two models.")] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Generate videos, train five architectures under one recipe, and write a report.

    Most classes differ only in the direction of time, which not every architecture can see.
    """
    with answering(as_json):
        import muybridge

        changes, runtime = parsed_settings(settings)
        study = muybridge.demo(out, seed=seed, quick=quick, changes=changes, runtime=runtime)
        _answer_study(study, as_json)


def compare(
    data: Annotated[
        list[str], typer.Option("--data", metavar="MANIFEST", help="Manifest that `prepare` wrote; repeatable.")
    ],
    out: Annotated[Path, typer.Option(metavar="STUDY", help="Folder for runs and report.")],
    models: Annotated[str | None, typer.Option(metavar="A,B,…", help="Names from `muybridge models`.")] = None,
    heads: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…", help="Heads over stored vectors (lstm, attentive, …), many settings of each at once."
        ),
    ] = None,
    streams: Annotated[
        str | None,
        typer.Option(
            metavar="A,B=MANIFEST,…",
            help="Inputs to train each model on, and to fuse: names of inputs; NAME=MANIFEST where another manifest (a store of "
            "flow) holds one.",
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            help="study_2021, mini, pretraining, transfer, equal_time, heads, single_or_recurrent, recurrent_depth, "
            "sequences, augmentation, two_streams, two_stream_features, or mine.py:function; none: all models by one recipe."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS=VALUE,…", help="Train only these runs of a study, such as num_frames=8,16; repeatable."
        ),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe for all models, as `train` takes it.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds per model.")] = 1,
    folds: Annotated[str | None, typer.Option(metavar="1,2,…", help="Folds of the manifest; none: all.")] = None,
    label_budget: Annotated[
        str | None,
        typer.Option(
            metavar="0.25,0.5,1", help="Train on these shares of the training videos: what would more labels buy?"
        ),
    ] = None,
    tune: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="TRIALS",
            help="Tune lr and weight decay first, this many validation trials per model.",
        ),
    ] = 0,
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=…",
            help="Search a field of the recipe on val first: optim.lr=1e-4..1e-1:log, clip.num_frames=8,16 or "
            "mine.py:function; repeatable.",
        ),
    ] = None,
    search_by: Annotated[str, typer.Option(help="tpe, random or grid.")] = "tpe",
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Trials of a search per model; none: 16, or until another budget is spent."),
    ] = None,
    search_epochs: Annotated[float | None, typer.Option(help="Most epochs of a search per model.")] = None,
    search_hours: Annotated[float | None, typer.Option(help="Most hours of training of a search per model.")] = None,
    halving: Annotated[
        int,
        typer.Option(
            metavar="ETA", help="Successive halving: only the best 1/ETA of the trials go on, ETA times as long."
        ),
    ] = 0,
    race: Annotated[
        bool, typer.Option("--race", help="Train seed by seed; models that are worse on val get no more seeds.")
    ] = False,
    race_from: Annotated[int, typer.Option(help="Seeds of each model before a race stops any.")] = 3,
    pretrained: Pretrained = None,
    init: Init = None,
    shorten: Shorten = None,
    epochs: Epochs = None,
    steps: Steps = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Also measure speed and memory of every setting for the report.")
    ] = False,
    largest: Annotated[
        bool,
        typer.Option("--largest", help="Measure, and search for the largest batch and the speed at it, too; slow."),
    ] = False,
    diagnose: Annotated[
        bool, typer.Option("--diagnose", help="Also score every run on reordered frames for the report.")
    ] = False,
    title: Annotated[str | None, typer.Option(help="Title of the report.")] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Write the study for `muybridge work`; train nothing.")
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="WHERE", help="Train elsewhere: ray, ray://HOST:PORT, slurm or pbs; none: here."),
    ] = None,
    gpus_per_run: Annotated[int | None, typer.Option(min=0, help="GPUs of a run on a cluster; none: one.")] = None,
    cpus_per_run: Annotated[
        int | None, typer.Option(min=1, help="CPUs of a run on a cluster; none: by its GPUs.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Most runs at once on a cluster; none: as many as fit.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="[D-]HH:MM:SS", help="Time limit of an element of a job array.")
    ] = None,
    partition: Annotated[
        str | None, typer.Option("--partition", "--queue", help="Slurm's partition, or PBS's queue.")
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LINE",
            help="Line for the job script: '#SBATCH --mem=32G' for its head, 'module load cuda' for its body; repeatable.",
        ),
    ] = None,
    mixed_versions: Annotated[
        bool,
        typer.Option("--mixed-versions", help="Let machines with another muybridge or torch join a Ray cluster."),
    ] = False,
    lost_after: LostAfter = 60.0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="List the runs, their steps and estimated times; with slurm or pbs, write the script alone. Train nothing.",
        ),
    ] = False,
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Train models × seeds × folds under one recipe, or the runs of a study, and write a report.

    All runs are scored alike. Repeat the command to resume: finished runs are kept, stopped ones continue.
    """
    with answering(as_json):
        import muybridge
        from muybridge.studies.plan import parse_only

        changes, runtime = parsed_settings(settings)
        spaces = [text for text in search or () if "=" not in text]  # the others are fields
        allow_named(*split_list(models or ""), *split_list(heads or ""), recipe, study, *spaces, allow_code=allow_code)
        asked: dict[str, Any] = {
            "models": split_list(models) if models is not None else None,
            "heads": split_list(heads) if heads is not None else None,
            "streams": split_list(streams) if streams is not None else None,
            "data": [path for paths in data for path in ([paths] if Path(paths).exists() else split_list(paths))],
            "folds": [parse_number(fold, "--folds") for fold in split_list(folds)] if folds else None,
            "label_budget": [parse_share(share) for share in split_list(label_budget)] if label_budget else None,
            "out": out, "study": study, "recipe": recipe, "seeds": seeds, "only": parse_only(only or []), "tune": tune,
            "search": search, "search_by": search_by, "trials": trials, "search_epochs": search_epochs,
            "search_hours": search_hours, "halving": halving, "race": race, "race_from": race_from,
            "pretrained": pretrained, "init": init, "changes": changes, "shorten": shorten, "epochs": epochs,
            "steps": steps, "title": title,
            "allow_code": allow_code, "runtime": runtime,
        }  # fmt: skip
        where: dict[str, Any] = {
            "gpus_per_run": gpus_per_run, "cpus_per_run": cpus_per_run, "jobs": jobs, "time": time, "partition": partition,
            "extra": tuple(extra or ()), "mixed_versions": mixed_versions,
        }  # fmt: skip
        if dry_run and cluster not in ("slurm", "pbs"):
            from muybridge.studies.elsewhere import check_cluster

            decided_here = bool(search or tune or race)
            check_cluster(cluster, where, out=out, plan_only=plan_only, is_decided_here=decided_here)
            plan = muybridge.plan(**asked, estimate=True)
            answer(as_json, plan.as_json, lambda: _print_plan(plan))
        else:
            made = muybridge.compare(
                **asked, measure=measure, largest=largest, diagnose=diagnose, plan_only=plan_only or dry_run, cluster=cluster,
                **where, lost_after=lost_after,
            )  # fmt: skip
            (_answer_study if made.comparisons else answer_planned)(made, as_json)


Pair = Annotated[
    str | None, typer.Option(metavar="A,B", help="Two rows to compare by class and video; none: the two best.")
]
NoFrames = Annotated[bool, typer.Option("--no-frames", help="Leave out frames of videos.")]
OpenIt = Annotated[bool, typer.Option("--open", help="Open the report in a browser.")]
FiguresFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Also write the figures of a paper or a talk: PDF, SVG, LaTeX tables, captions."
    ),
]
FiguresSize = Annotated[str, typer.Option(help="Size of the figures: column (85 mm), page (175 mm) or slide (16:9).")]
CardFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Also write a card: a small JSON of figures and hashes that `muybridge verify` checks."
    ),
]
CardKey = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Private Ed25519 key that signs the card; none: not signed.")
]


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN… | STUDY", help="Run folders, or a study's folder.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="HTML file to write; none: in the study's folder.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the report.")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[DATA=]SET",
            help="Also show published results, marked as such: mini_ssv2, mini_kinetics, mini_moments, kinetics400, "
            "kinetics5, ucf101, hmdb51, ucf11.",
        ),
    ] = None,
    pair: Pair = None,
    no_frames: NoFrames = False,
    figures: FiguresFolder = None,
    size: FiguresSize = "column",
    card: CardFile = None,
    key: CardKey = None,
    open_it: OpenIt = False,
    as_json: Json = False,
) -> None:
    """Write a report of finished runs: one HTML file that works offline.

    The same content is written beside it as Markdown, JSON, CSV, LaTeX, SVG and PNG.
    """
    with answering(as_json):
        import muybridge

        published = dict(entry.partition("=")[::2] for entry in beside or [])
        written = muybridge.report(
            runs,
            out=out,
            title=title,
            beside=beside[0] if beside and not any(published.values()) else published or None,
            pair=None if pair is None else split_list(pair),
            with_frames=not no_frames,
            figures=figures,
            size=size,
            card=card,
            key=key,
        )
        if open_it:
            webbrowser.open(written.path.resolve().as_uri())
        _answer_report(written, as_json)


def judge(
    predictions: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]FILE… | RUN… | STUDY",
            help="Files of predictions, several of one NAME being its seeds; folders of runs and studies.",
        ),
    ],
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="What the videos show: a manifest, a table with a video and a label a row, or a list of `path label`; none: "
            "the tests of the runs, or the labels in the files.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the manifest that was tested.")] = "test",
    fold: Annotated[int | None, typer.Option(min=1, help="Fold of the manifest that was tested; none: all.")] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Names of the classes in the order of the scores: a line a class, or `0 name`."
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="Format of the files (docs/judge.md); none: found out by each file's content.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT=NAME",
            help="Column of a table that has the video, label, answer, model, seed, group, split or view, or what the names of "
            "the columns of scores begin with; repeatable. None: found by usual names.",
        ),
    ] = None,
    scores: Annotated[
        str | None, typer.Option(help="What the scores are: probabilities or logits; none: found out by their sums.")
    ] = None,
    seed_pattern: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Where the seed is in a file's name: 'run([0-9]+)'; none: behind `seed`."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="HTML file to write; none: judge.html.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the report.")] = None,
    pair: Pair = None,
    no_frames: NoFrames = False,
    figures: FiguresFolder = None,
    size: FiguresSize = "column",
    card: CardFile = None,
    key: CardKey = None,
    open_it: OpenIt = False,
    as_json: Json = False,
) -> None:
    """Compare predictions that any tool made, with each other and with runs, and write the report.

    It also says which figures are missing, and what would give them. Nothing is trained.
    """
    with answering(as_json):
        import muybridge

        named = pairs("--column", column) or {}
        written = muybridge.judge(
            predictions,
            truth=truth,
            split=split,
            fold=fold,
            classes=classes,
            format=format,
            column={what: name.split(",") for what, name in named.items()},
            scores=scores,
            seed_pattern=seed_pattern,
            out=out,
            title=title,
            pair=None if pair is None else split_list(pair),
            with_frames=not no_frames,
            figures=figures,
            size=size,
            card=card,
            key=key,
        )
        if open_it:
            webbrowser.open(written.path.resolve().as_uri())
        _answer_report(written, as_json)


def _answer_report(written: Any, as_json: bool) -> None:
    also = {"figures": written.figures, "card": written.card}

    def show() -> None:
        _print_report(written.path, written.comparisons)
        for name, path in also.items():
            if path is not None:
                say(f"{name}: {path}")

    files = {name: None if path is None else str(path) for name, path in also.items()}
    answer(as_json, lambda: _report_json(written.path, written.comparisons) | files, show)


def _answer_study(study: Any, as_json: bool) -> None:
    answer(
        as_json,
        lambda: {"study": str(study.path), **_report_json(study.report, study.comparisons)},
        lambda: _print_report(study.report, study.comparisons),
    )


def _report_json(path: Path, comparisons: Mapping[str, Any]) -> dict[str, Any]:
    from muybridge.reporting.report import document

    return {"report": str(path), **document(comparisons)}


def _print_report(path: Path, comparisons: Mapping[str, Any]) -> None:
    from muybridge.analysis.findings import findings
    from muybridge.analysis.verdict import study_verdict

    for line in study_verdict(comparisons).lines():
        say(line)
    for name, comparison in comparisons.items():
        if len(comparisons) > 1:
            say(f"\n{name}")
        header, lines = comparison.table()
        table(header, lines + comparison.baseline_rows(header), numeric=tuple(range(1, len(header))))
        for line in (*findings(comparison), *comparison.notes):
            say(line)
    say(f"report: {path}")


def _print_plan(plan: Any) -> None:
    planned = plan.as_json()
    formats = {"steps": ",", "epochs": ",", "max_hours": "g"}
    known = [run["estimated_seconds"] for run in planned["runs"]]
    lines = [
        [run["name"], run["starts_from"] or "–",
         *("–" if run[name] is None else format(run[name], how) for name, how in formats.items()),
         "–" if seconds is None else duration(seconds)]
        for run, seconds in zip(planned["runs"], known, strict=True)
    ]  # fmt: skip
    table(["run", "starts from", "steps", "epochs", "hours at most", "computes for about"], lines, numeric=(2, 3, 4, 5))
    for search in plan.searches.values():
        say(search["said"])
    takes = [seconds for seconds in known if seconds is not None]
    about = (
        f", about {duration(sum(takes))} of computing on this machine, the decoding of videos not counted"
        if takes
        else ""
    )
    fused = f"; then {plural(len(planned['fused']), 'fused result')}" if planned["fused"] else ""
    say(f"{planned['title']}: {plural(len(lines), 'run')}{about}{fused}")
