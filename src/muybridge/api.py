"""The verbs that put several parts together: recipes by their names, evaluations, comparisons, reports, costs, listings.

A verb is a function of the package (`muybridge.train`); the command line parses its arguments and prints its answer.
Bodies import what they need, so that training loads nothing that only a report needs.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from muybridge.errors import UserError, nearest
from muybridge.recipe import Recipe, Runtime, replace, shipped
from muybridge.recipe.fields import fields as meanings
from muybridge.recipe.fields import flat, with_network
from muybridge.recipe.schedule import resized
from muybridge.runtime.console import log
from muybridge.runtime.shown import ShownSets, heading
from muybridge.storage.listing import Standing, find, standing
from muybridge.storage.run import STATES, Run
from muybridge.user_code import allow, check_consent, explained, parsed

if TYPE_CHECKING:
    from muybridge.analysis.comparison import Comparison
    from muybridge.analysis.doctor.checkup import Checkup
    from muybridge.analysis.lr_range import LrRange
    from muybridge.data.verify import Verified
    from muybridge.reporting.card import CheckedCard
    from muybridge.storage.scores import Scores
    from muybridge.studies.plan import Plan, Planned, Value
    from muybridge.studies.run import Study


def recipe_of(
    recipe: str | Recipe | None = None,
    *,
    model: str | None = None,
    data: str | Path | None = None,
    fold: int | None = None,
    pretrained: str | Path | None = None,
    init: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    shorten: float | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    allow_code: bool = False,
) -> Recipe:
    """Return a recipe by name, with a model, a manifest, weights and dotted changes put in.

    `recipe`: see `muybridge.recipe.shipped.load`. `shorten`: the share that is kept of its schedule; `epochs` or
    `steps`: exactly that number, with warm-up and milestones at their share. `pretrained`: weights to start from, whole;
    `init`: matching tensors only. A model in the user's own code that a file names needs
    `allow_code`. Raises UserError.
    """
    base = recipe if isinstance(recipe, Recipe) else shipped.load(recipe or shipped.DEFAULT)
    base = resized(base, shorten=shorten, epochs=epochs, steps=steps)
    _check_one_length(changes, epochs=epochs, steps=steps)
    named: dict[str, Any] = {}
    given = dict(changes or {})
    model = given.pop("model.name", model)
    if model is not None:
        base = with_network(base, model)
        allow(base.model.name)
    if data is not None:
        named |= {"data.manifest": str(data), "data.sha256": None}
    if fold is not None:
        named["data.fold"] = fold
    if pretrained is not None and init is not None:
        raise UserError(
            "--init: --pretrained is given, too. Give one of the two: --pretrained takes weights whole, --init as "
            "far as they agree"
        )
    weights = pretrained if init is None else init
    if weights is not None:
        if not str(weights).strip():
            raise UserError(
                "--pretrained or --init: the name is empty. Name weights (imagenet, a run folder, a file), or start "
                "from scratch: --pretrained none"
            )
        named |= {
            "model.pretrained": None if weights == "none" else str(weights), "model.pretrained_sha256": None,
            "model.strict": init is None,
        }  # fmt: skip
    made = replace(base, named | given)
    where = "The recipe" if recipe is None or isinstance(recipe, Recipe) else recipe
    check_consent(made.model.name, where=where, allow_code=allow_code)
    return made


def _check_one_length(changes: Mapping[str, Any] | None, *, epochs: int | None, steps: int | None) -> None:
    """Refuse a length of the training that is given twice. Raises UserError."""
    given = "--epochs" if epochs is not None else "--steps" if steps is not None else None
    for name in ("optim.epochs", "optim.steps", "optim.min_steps") if given else ():
        if name in (changes or {}):
            raise UserError(f"{given}: {name} is given, too. Give one of them")


def train(
    recipe: str | Recipe | None = None,
    *,
    model: str | None = None,
    data: str | Path | None = None,
    out: str | Path,
    fold: int | None = None,
    pretrained: str | Path | None = None,
    init: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    shorten: float | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    allow_code: bool = False,
    runtime: Runtime | None = None,
) -> Run:
    """Train one model into the run folder `out`. See `muybridge train --help`."""
    from muybridge.training import loop

    return loop.train(
        recipe_of(
            recipe,
            model=model,
            data=data,
            fold=fold,
            pretrained=pretrained,
            init=init,
            changes=changes,
            shorten=shorten,
            epochs=epochs,
            steps=steps,
            allow_code=allow_code,
        ),
        out=out,
        runtime=runtime,
    )


def causal(
    run: str | Path | Run,
    *,
    out: str | Path,
    data: str | Path | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    changes: Mapping[str, Any] | None = None,
    allow_code: bool = False,
    runtime: Runtime | None = None,
) -> Run:
    """Turn a trained TSM into one that looks back only, fine-tune it briefly, and return that run, in the folder `out`.

    It answers frame by frame then (`muybridge.zoo.steps`). `epochs`, `steps`: the length of the fine-tuning; none: a tenth
    of the run's steps. `data`: the manifest, where the run's was moved, or another one. `changes`: dotted fields of the
    recipe. Clips that are uniform cannot stream. See `muybridge causal --help`. Raises UserError.
    """
    from muybridge.training import loop
    from muybridge.training.causal import looking_back, tell

    run = Run.open(run)
    _check_one_length(changes, epochs=epochs, steps=steps)
    recipe = looking_back(run, data=None if data is None else str(data), epochs=epochs, steps=steps, changes=changes)
    check_consent(recipe.model.name, where=str(run.path), allow_code=allow_code)
    tell(run, recipe)
    return loop.train(recipe, out=out, runtime=runtime)


def estimate(
    recipe: str | Recipe | None = None,
    *,
    model: str | None = None,
    data: str | Path | None = None,
    fold: int | None = None,
    pretrained: str | Path | None = None,
    init: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    shorten: float | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    allow_code: bool = False,
    runtime: Runtime | None = None,
) -> Planned:
    """Return what `train` would do: its recipe, the length of the training, and its computing time by a measured step.

    Everything that `train` checks before its first step is checked, and nothing is written. The time counts training,
    validation and test, not the decoding of videos. See `muybridge train --dry-run`. Raises UserError.
    """
    from muybridge.recipe.schedule import budget
    from muybridge.studies.plan import Planned
    from muybridge.training.estimate import Estimates
    from muybridge.training.job import Jobs

    made = recipe_of(
        recipe, model=model, data=data, fold=fold, pretrained=pretrained, init=init, changes=changes, shorten=shorten,
        epochs=epochs, steps=steps, allow_code=allow_code,
    )  # fmt: skip
    runtime = runtime or Runtime()
    job = Jobs(runtime).job(made)
    seconds = Estimates(runtime).seconds(job.recipe, job.manifest, macs=job.cost["macs"])
    return Planned(job.recipe, {}, budget=budget(job.recipe, len(job.train_rows)), seconds=seconds)


def find_lr(
    recipe: str | Recipe | None = None,
    *,
    model: str | None = None,
    data: str | Path | None = None,
    out: str | Path,
    fold: int | None = None,
    pretrained: str | Path | None = None,
    init: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    shorten: float | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    allow_code: bool = False,
    runtime: Runtime | None = None,
) -> LrRange:
    """Find a learning rate for a training: the loss of about 100 steps at rising rates. Takes what `train` takes.

    `out`: the picture, an .svg, .png or .html file that is not there yet; the numbers are written beside it as JSON. No
    run is written. Raises UserError.
    """
    from muybridge.reporting.charts.lr_range import lr_range as chart
    from muybridge.reporting.picture import check_picture, write_picture
    from muybridge.runtime.files import write_json
    from muybridge.training.lr_range import lr_range

    picture = Path(out)
    check_picture(picture)
    made = recipe_of(
        recipe, model=model, data=data, fold=fold, pretrained=pretrained, init=init, changes=changes, shorten=shorten,
        epochs=epochs, steps=steps, allow_code=allow_code,
    )  # fmt: skip
    found = lr_range(made, allow_code=allow_code, runtime=runtime)
    write_picture(picture, chart(found, f"{made.model.name}, {made.optim.optimizer}"))
    write_json(picture.with_suffix(".json"), found.as_json())
    return found


def evaluate(
    run: str | Path | Run,
    *,
    pretrained: str | Path | None = None,
    data: str | Path | None = None,
    split: str | None = None,
    fold: int | None = None,
    checkpoint: str | None = None,
    average: str | None = None,
    changes: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    keep: bool = False,
    unknown: bool = False,
    allow_code: bool = False,
    runtime: Runtime | None = None,
) -> Scores:
    """Score a run on a split: of its own manifest, or of another one with the same classes (`data`).

    With `pretrained`, `run` is the name of a network, and these weights are scored as they are, with their own classifier:
    public ones (kinetics400, hub), a file or a URL. Every class of `data` must be one of theirs, by its name but for case,
    spaces and underscores. `changes` may then set the model's options, too.

    `changes` are dotted fields of the recipe's sections `evaluation` and `clip` (more views, say), or `data.on_error`.
    `average`: over a video's views, "logits" or "probabilities"; none: the recipe's.
    `split`: "test", "val" or "train"; none: test, or val of a set without a test (which is said).
    Testing on videos that the run was trained on is refused, unless `split` is "train". Videos that cannot be read are an
    error, or, with `data.on_error` skip, said and left out. Scores are written to `out`, where it is given.
    `keep`: store them in the run (`evaluations/NAME/`), whose reports then show this evaluation as a row of its own; of the
    run's own data set and fold only, and never over another.
    `unknown`: the videos of `data` are of none of the run's classes. They are scored as the run's own test was, all of them
    unless `split` is given, and kept in the run, whose reports then say how well it tells them from its own. Their labels
    are -1.
    A run of a `module:function` model brings that file along; it is imported only with `allow_code`.

    `run` may also be such a file of scores (.npz). It is read without the model, and nothing but `average` applies.
    Raises UserError.
    """
    from muybridge.storage.scores import Average, Scores

    if average not in (None, *get_args(Average)):
        raise UserError(f"--average: '{average}' is unknown. Choose logits or probabilities")
    if not isinstance(run, Run) and Path(run).suffix == ".npz":
        options = {
            "--pretrained": pretrained, "--data": data, "--split": split, "--fold": fold is not None,
            "--checkpoint": checkpoint, "--out": out, "--keep": keep, "--unknown": unknown,
            "--set": changes or runtime not in (None, Runtime()), "--allow-code": allow_code,
        }  # fmt: skip
        extra = [name for name, value in options.items() if value]
        if extra:
            raise UserError(f"{extra[0]}: it does not apply to stored scores ({run}). Name a run folder")
        scores = Scores.load(run)
        return dataclasses.replace(scores, average=cast(Average, average or scores.average))

    from muybridge.evaluation.evaluate import check_scores_file, prepared
    from muybridge.evaluation.trained import trained

    if out is not None:
        check_scores_file(Path(out))
    if average is not None:
        changes = {**(changes or {}), "evaluation.average": average}
    network = trained(run, pretrained=pretrained, changes=changes, runtime=runtime, allow_code=allow_code)
    with prepared(
        network, data=data, split=split, fold=fold, checkpoint=checkpoint,
        changes=changes if pretrained is None else None, runtime=runtime, unknown=unknown,
    ) as task:  # fmt: skip
        keep = keep or unknown
        name = task.name_to_keep() if keep else ""
        scores = task.scores()["ordered"]
        if out is not None and task.processes.is_first:
            scores.save(Path(out))
        if keep and task.processes.is_first:
            task.keep(name, scores)
        return scores


def plan(
    models: Sequence[str] | None = None,
    *,
    data: str | Path | Sequence[str | Path],
    heads: Sequence[str] | None = None,
    streams: Sequence[str] | None = None,
    study: str | Plan | None = None,
    recipe: str | Recipe | None = None,
    seeds: int | Sequence[int] = 1,
    folds: Sequence[int] | None = None,
    label_budget: Sequence[float] | None = None,
    only: Mapping[str, Sequence[Value]] | None = None,
    pretrained: str | Path | None = None,
    init: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    shorten: float | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    title: str | None = None,
    allow_code: bool = False,
    out: str | Path | None = None,
    tune: int = 0,
    search: Sequence[str] | None = None,
    search_by: str = "tpe",
    trials: int | None = None,
    search_epochs: float | None = None,
    search_hours: float | None = None,
    halving: int = 0,
    race: bool = False,
    race_from: int = 3,
    estimate: bool = False,
    runtime: Runtime | None = None,
) -> Plan:
    """Return the runs that `compare` would train.

    They are models × seeds × folds by one recipe, or those of a `study` (its name, mine.py:function, or a Plan). `heads`:
    heads over stored vectors, the study of that name. `label_budget`: shares of the training videos, each run on every
    one (what would more labels buy?). `streams`: the inputs on which each model is trained, and whose scores are fused:
    `NAME`, or `NAME=MANIFEST` where another manifest holds it, as a store of flow does. `only` picks some of the runs by
    their axes. A model in the user's own code that is named neither in `models` nor by such a function needs `allow_code`.

    With `out`, the folder of the study, the runs have the names and lengths that they will have there. Models, folds and
    splits are checked for it, with the search, the race and the `runtime`, and nothing is written; `searches` of the plan
    says what a search will take. `estimate`: measure a step of each setting, and estimate computing times. Raises UserError.
    """
    from muybridge.studies import shipped as studies
    from muybridge.studies.asked import Search
    from muybridge.studies.plan import of_models, repeated
    from muybridge.studies.two_streams import of_streams, parsed_streams

    asked = Search.of(
        search or (), by=search_by, trials=trials, epochs=search_epochs, hours=search_hours, halving=halving, tune=tune
    )
    if out is None and (asked or race or estimate or runtime is not None):
        raise UserError(
            "search, tune, race, estimate, runtime: they are for a study's folder, and none is given. Give it: out=STUDY"
        )
    _check_one_length(changes, epochs=epochs, steps=steps)
    taken = {"model.name": "models", "seed": "seeds", "data.fold": "folds", "data.manifest": "data"}
    if label_budget is not None:
        taken["data.train_share"] = "label_budget"
    if streams is not None:
        taken["clip.modality"] = "streams"
    for name in changes or {}:
        if name in taken:
            raise UserError(f"{name}: compare varies or takes it by itself. Use {taken[name]}")
    for model in models or ():
        allow(model)
    manifests = [str(path) for path in ([data] if isinstance(data, str | Path) else data)]
    if heads is not None:
        if models is not None or study is not None:
            raise UserError("--heads: models or a study are given, too. Give one of them")
        models, study = heads, "heads"
    if study is None:
        if not models:
            raise UserError("models: none are given. Name at least one model, or a study")
        base = recipe if isinstance(recipe, Recipe) else shipped.load(recipe or shipped.DEFAULT)
        recipes = [
            recipe_of(
                base,
                model=model,
                pretrained=pretrained,
                init=init,
                changes=changes,
                shorten=shorten,
                epochs=epochs,
                steps=steps,
            )
            for model in models
        ]
        if streams is None:
            made = of_models(list(models), recipe=recipes, data=manifests)
        else:
            made = of_streams(list(models), recipe=recipes, data=manifests, streams=parsed_streams(streams, manifests))
    else:
        if init is not None:
            raise UserError("--init: a study says itself what its runs start from. Use --init with models alone")
        given = {
            "models": None if models is None else tuple(models),
            "streams": None if streams is None else tuple(streams),
            "pretrained": None if pretrained is None else str(pretrained),
            "recipe": shipped.load(recipe) if isinstance(recipe, str) else recipe,
        }
        given = {name: value for name, value in given.items() if value is not None}
        made = studies.of(study, data=manifests, **given).changed(
            changes or {}, shorten=shorten, epochs=epochs, steps=steps
        )
    for planned in made.runs.values():
        check_consent(planned.recipe.model.name, where=made.title, allow_code=allow_code)
    made.check_needs()
    if label_budget is not None:
        made = made.budgeted(label_budget)
    made = repeated(made, seeds=range(seeds) if isinstance(seeds, int) else seeds, folds=folds)
    if only:
        made, kept = made.only(only)
        if kept:
            log(f"kept, as others start from them: {', '.join(kept)}")
    if title is not None:
        made = dataclasses.replace(made, title=title)
    if out is None:
        return made

    from muybridge.studies.run import dry_run

    return dry_run(
        made, out=out, search=asked, race_from=race_from if race else None, estimate=estimate, runtime=runtime
    )


def compare(
    models: Sequence[str] | None = None,
    *,
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    heads: Sequence[str] | None = None,
    streams: Sequence[str] | None = None,
    study: str | Plan | None = None,
    recipe: str | Recipe | None = None,
    seeds: int | Sequence[int] = 1,
    folds: Sequence[int] | None = None,
    label_budget: Sequence[float] | None = None,
    only: Mapping[str, Sequence[Value]] | None = None,
    tune: int = 0,
    search: Sequence[str] | None = None,
    search_by: str = "tpe",
    trials: int | None = None,
    search_epochs: float | None = None,
    search_hours: float | None = None,
    halving: int = 0,
    race: bool = False,
    race_from: int = 3,
    pretrained: str | Path | None = None,
    init: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    shorten: float | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    measure: bool = False,
    largest: bool = False,
    diagnose: bool = False,
    title: str | None = None,
    plan_only: bool = False,
    cluster: str | None = None,
    gpus_per_run: int | None = None,
    cpus_per_run: int | None = None,
    jobs: int | None = None,
    time: str | None = None,
    partition: str | None = None,
    extra: Sequence[str] | None = None,
    mixed_versions: bool = False,
    lost_after: float = 60.0,
    allow_code: bool = False,
    runtime: Runtime | None = None,
) -> Study:
    """Train and score the runs of a `plan` into the folder `out`, and write the report.

    `search`: fields of the recipe that trials on val choose for each setting first (`FIELD=LOW..HIGH[:log]`,
    `FIELD=A,B,…`, `mine.py:function`), by `search_by` ("tpe", "random", "grid"), with a budget of `trials`,
    `search_epochs` or `search_hours`; `halving`: only the best 1 / `halving` of them are trained further. `tune`: the
    number of trials of learning rate and weight decay around the recipe's. `race`: after `race_from` seeds, models that are
    worse on val get no more. `label_budget`: shares of the training videos that every run is trained on, such as 0.25, 0.5
    and 1: what would more labels buy? `measure`: also measure speed and memory. `largest`: measure, and search for the largest
    batch, too. `diagnose`: also score every run with its frames in other orders. Streams of a model are fused when all runs
    are finished (`fuse`), by weights chosen on val.

    `plan_only`: write the study for workers (`muybridge.work`), and train nothing. `cluster`: train elsewhere: "ray" (this
    machine), "ray://HOST:PORT", "slurm" or "pbs", whose job array is submitted, or with `plan_only` only written.
    `gpus_per_run`, `cpus_per_run`: a run's share of a machine; `jobs`: the most runs at once. `time` (HH:MM:SS), `partition`
    and `extra` (lines for the script) are of a job array. `mixed_versions`: let machines with other versions of
    muybridge or torch join. `lost_after`: seconds without a sign of life after which another worker's run is taken over.
    Raises UserError, Interrupted.
    """
    from muybridge.studies.asked import Search

    asked = Search.of(
        search or (), by=search_by, trials=trials, epochs=search_epochs, hours=search_hours, halving=halving, tune=tune
    )
    where: dict[str, Any] = {
        "gpus_per_run": gpus_per_run, "cpus_per_run": cpus_per_run, "jobs": jobs, "time": time, "partition": partition,
        "extra": tuple(extra or ()), "mixed_versions": mixed_versions,
    }  # fmt: skip
    if plan_only or cluster is not None or any(value not in (None, False, ()) for value in where.values()):
        from muybridge.studies.elsewhere import check_cluster

        check_cluster(cluster, where, out=Path(out), plan_only=plan_only, is_decided_here=asked is not None or race)
    made = plan(
        models, data=data, heads=heads, streams=streams, study=study, recipe=recipe, seeds=seeds, folds=folds,
        label_budget=label_budget, only=only, pretrained=pretrained, init=init, changes=changes, shorten=shorten,
        epochs=epochs, steps=steps, title=title,
        allow_code=allow_code,
    )  # fmt: skip

    from muybridge.studies.run import run  # imports all that training needs: mistakes in the plan are said before

    study_run = run(
        made, out=out, search=asked, race_from=race_from if race else None, measure=measure, largest=largest, diagnose=diagnose,
        plan_only=plan_only or cluster is not None, lost_after=lost_after, runtime=runtime,
    )  # fmt: skip
    if cluster is None:
        return study_run

    from muybridge.studies.elsewhere import carry_out

    return carry_out(study_run, cluster, **where, lost_after=lost_after, plan_only=plan_only)


@dataclasses.dataclass(frozen=True)
class WrittenReport(ShownSets):
    """A report on disk, and what it says."""

    path: Path
    comparisons: Mapping[str, Comparison] = dataclasses.field(repr=False)
    """The comparison of each data set, by its name."""
    figures: Path | None = None
    """Folder of figures for a paper or a talk, where one was asked for."""
    card: Path | None = None
    """Card of the result, where one was asked for."""

    def __str__(self) -> str:
        """Path, and the verdict in a sentence."""
        return "\n".join([str(self.path), *self._said()[:1]])

    def _said(self) -> list[str]:
        """Headline of the verdict and what it recommends; of several data sets those on all of them."""
        from muybridge.analysis.verdict import study_verdict

        if not self.comparisons:
            return []
        verdict = study_verdict(self.comparisons)
        return [verdict.headline, verdict.recommendation]

    def _repr_html_(self) -> str:
        said = heading(*self._said()) if len(self.comparisons) > 1 else ""
        return said + super()._repr_html_() + heading(str(self.path))


def report(
    runs: str | Path | Run | Sequence[str | Path | Run],
    *,
    out: str | Path | None = None,
    title: str | None = None,
    beside: str | Mapping[str, str] | None = None,
    pair: Sequence[str] | None = None,
    with_frames: bool = True,
    figures: str | Path | None = None,
    size: str = "column",
    card: str | Path | None = None,
    key: str | Path | None = None,
) -> WrittenReport:
    """Write the report of finished runs: one HTML file, and beside it the same as Markdown, JSON, CSV, LaTeX, SVG and PNG.

    `runs`: run folders, or a study's folder. `out`: the HTML file; none: `report.html` in the study's folder, or here.
    `beside`: published results to show, a set's name (`ucf101`), or one for each data set. `pair`: two rows to hold
    against each other; none: the two best. `with_frames`: show frames of videos. `figures`: also a folder of the charts
    as PDF and SVG and of the tables as LaTeX, for a `size` of `muybridge.reporting.figures.SIZES` (column, page, slide).
    `card`: also a small JSON of the result that `verify` checks; `key`: a private Ed25519 key that signs it. Raises
    UserError.
    """
    from muybridge.reporting.beside import Beside
    from muybridge.reporting.report import Report

    also = Beside.of(figures=figures, size=size, card=card, key=key)
    comparisons, study, of_study = _compared(runs)
    target = Path(out or ("report.html" if study is None else study / "report.html"))
    also.check_apart(target)
    made = Report.of(comparisons, title=title or of_study, beside=beside, pair=pair, with_frames=with_frames)
    made.write(target)
    also.write(made)
    return WrittenReport(target, comparisons, also.figures, also.card)


def _compared(
    runs: str | Path | Run | Sequence[str | Path | Run],
) -> tuple[Mapping[str, Comparison], Path | None, str | None]:
    """Comparisons of finished runs; and the folder and the title of the study, if one alone is named. Raises UserError."""
    from muybridge.analysis.comparison import compared_runs, compared_study, find_runs
    from muybridge.storage.study import StudyRecord

    finished, folder = find_runs(_names(runs))
    if folder is None:
        return compared_runs(finished), None, None
    record = StudyRecord.load(folder)
    return compared_study(record), folder, record.title


def verify(
    path: str | Path,
    runs: str | Path | Run | Sequence[str | Path | Run] | None = None,
    *,
    truth: str | Path | None = None,
    classes: str | Path | None = None,
    key: str | Path | None = None,
    jobs: int | None = None,
) -> Verified | CheckedCard:
    """Check files of a manifest against their hashes, or a card of a result against what it is of.

    `path`: a manifest, a pack, a store of vectors (see `muybridge.data.verify`), or a card that `report` or `judge` wrote.
    `runs`: of a card, the runs, the study or the files of predictions (as `judge` takes them) whose figures are derived
    again; none: its hash and signature alone. `truth`, `classes`: of a card of `judge`, the files that it was given. `key`:
    the public Ed25519 key that must have signed the card. `jobs`: threads that hash the files of a manifest. Raises UserError.
    """
    from muybridge.data.verify import verify as verify_files
    from muybridge.reporting import card as cards

    several = [runs] if isinstance(runs, str | Path | Run) else list(runs or ())
    if not cards.is_card(Path(path)):
        options = {"--key": key, "--truth": truth, "--classes": classes}
        if several or any(given is not None for given in options.values()):
            what = _names(several)[0] if several else next(name for name, given in options.items() if given is not None)
            raise UserError(f"{what}: it is of a card, and {path} is not one. Leave it out")
        return verify_files(path, jobs=jobs)
    if jobs is not None:
        raise UserError(f"--jobs: {path} is a card, and no files are hashed. Leave it out")
    content = cards.read_card(Path(path))  # before the runs are read
    asked = None if key is None else cards.public_key(Path(key))
    how = content.get("judged")
    if (how is None or not several) and (truth is not None or classes is not None):
        fault = "is the card of a report, which takes neither" if how is None else "has no files to read by them"
        raise UserError(
            f"--truth, --classes: {path} {fault}. {'Leave them out' if how is None else 'Name the files, too'}"
        )
    derived: Mapping[str, Comparison] | None = None
    if several:
        derived = _compared(several)[0] if how is None else _judged(several, truth=truth, classes=classes, **how)
    return cards.check_card(Path(path), derived, public_key=asked)


def judge(
    predictions: str | Path | Run | Sequence[str | Path | Run] | Mapping[str, Any],
    *,
    truth: str | Path | Sequence[int | str] | None = None,
    split: str = "test",
    fold: int | None = None,
    classes: str | Path | Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    format: str | None = None,
    column: Mapping[str, str | Sequence[str]] | None = None,
    scores: str | None = None,
    seed_pattern: str | None = None,
    out: str | Path | None = None,
    title: str | None = None,
    pair: Sequence[str] | None = None,
    with_frames: bool = True,
    figures: str | Path | None = None,
    size: str = "column",
    card: str | Path | None = None,
    key: str | Path | None = None,
) -> WrittenReport:
    """Compare predictions that any tool made, and write the report of them.

    `predictions`: files (`NAME=FILE` names a row; several files of one name are its seeds), and folders of runs and
    studies; or a dict by the names of rows: files, (N,K) scores, (N,) answers, or a list of such arrays, one a seed.
    `truth`: a manifest (its `split`, of one `fold` or of all), a table or a list of videos and labels, or the labels in the
    order of the arrays; none: the tests of the runs, or the labels in the files. `classes`: names in the order of the
    scores, or a file with a line a class. `ids`, `groups`: names and groups of the arrays' videos. `format`, `column` (such
    as `{"video": "clip_name"}`): how files are read; none: found out. `scores`: "probabilities" or "logits"; none: found out.
    `seed_pattern`: regular expression whose group is the seed in a file's name. `out`: the HTML file; none: `judge.html`
    here. `title`, `pair`, `with_frames`, `figures`, `size`, `card`, `key`: as `report` takes them. Raises UserError.
    """
    from muybridge.reporting.beside import Beside
    from muybridge.reporting.report import Report

    also = Beside.of(figures=figures, size=size, card=card, key=key)
    how: dict[str, Any] = {
        "split": split, "fold": fold, "format": format, "column": dict(column or {}), "scores": scores,
        "seed_pattern": seed_pattern,
    }  # fmt: skip
    target = Path(out or "judge.html")
    also.check_apart(target)
    comparisons = _judged(predictions, truth=truth, classes=classes, ids=ids, groups=groups, **how)
    made = Report.of(comparisons, title=title, pair=pair, with_frames=with_frames)
    made.write(target)
    also.write(made, judged=how)
    return WrittenReport(target, comparisons, also.figures, also.card)


def _judged(
    predictions: str | Path | Run | Sequence[str | Path | Run] | Mapping[str, Any],
    *,
    truth: str | Path | Sequence[int | str] | None,
    split: str,
    fold: int | None,
    classes: str | Path | Sequence[str] | None,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    format: str | None,
    column: Mapping[str, str | Sequence[str]],
    scores: str | None,
    seed_pattern: str | None,
) -> dict[str, Comparison]:
    """The comparison of predictions, by the name of its data set."""
    from muybridge.analysis.comparison import find_runs
    from muybridge.analysis.judging import asked_of, judged
    from muybridge.storage.predictions import Columns
    from muybridge.storage.study import StudyRecord

    is_file = isinstance(truth, str | Path)
    asked, folders = asked_of(
        predictions, ids=ids, in_order_of=cast("str | Path", truth) if is_file else None,
        have_labels=truth is not None and not is_file,
    )  # fmt: skip
    runs, folder = find_runs(folders)
    study = None if folder is None else StudyRecord.load(folder)
    if study is not None and len(study.sets) > 1:
        raise UserError(f"{folder}: it has {len(study.sets)} data sets. Name the runs of one: {folder}/runs/RUN")
    named = [f"{what}={name if isinstance(name, str) else ','.join(name)}" for what, name in column.items()]
    comparison = judged(
        asked, runs, study=study, truth=truth, split=split, fold=fold,
        classes=classes, groups=groups, format=format, columns=Columns.of(named), scores=scores, seed_pattern=seed_pattern,
    )  # fmt: skip
    return {comparison.data: comparison}


def doctor(
    manifest: str | Path,
    *,
    out: str | Path | None = None,
    recipe: str | Recipe | None = None,
    changes: Mapping[str, Any] | None = None,
    features: str | Path | None = None,
    study: str | Path | None = None,
    quick: bool = False,
    jobs: int | None = None,
) -> Checkup:
    """Look for what is wrong with a data set, and write a page with pictures and the commands that mend it.

    `out`: the HTML file; none: NAME.doctor.html beside the manifest. The lists that its commands name lie beside it, in
    NAME.doctor.files. `recipe` and its `changes`: whose clip the videos' lengths and rates are held against (none: the
    study's, else the default one). `features`, a store of vectors of these videos, or `study`, whose runs were tested on
    them: whose answers tell which labels look wrong. `quick`: read the manifest alone, look at no video and write nothing.
    Raises UserError.
    """
    from muybridge.analysis.comparison import find_runs
    from muybridge.analysis.doctor.checkup import check_manifest, examine
    from muybridge.reporting import doctor as page

    path = Path(manifest)
    of_study = [] if study is None or quick else find_runs([study])[0]
    if recipe is None and of_study:
        base = of_study[0].recipe()
    else:
        base = recipe if isinstance(recipe, Recipe) else shipped.load(recipe or shipped.DEFAULT)
    clip = replace(base, dict(changes or {})).clip
    if quick:
        given = {"--out": out, "--features": features, "--study": study}
        extra = [name for name, value in given.items() if value is not None]
        if extra:
            raise UserError(f"{extra[0]}: --quick reads the manifest alone and writes nothing. Leave one of them out")
        return examine(path, clip=clip, cache=None, jobs=jobs)
    check_manifest(path)  # a mistake leaves no folder
    csv = path / "manifest.csv" if path.is_dir() else path
    target = Path(out) if out is not None else csv.with_name(f"{csv.stem}.doctor.html")
    page.check_free(target)
    looks = page.files_of(target) / "looks.npy"
    return page.write(examine(path, clip=clip, cache=looks, features=features, study=study, jobs=jobs), target)


def measure(
    names: str | Path | Run | Sequence[str | Path | Run],
    *,
    num_classes: int | None = None,
    num_frames: int | None = None,
    size: int | None = None,
    temporal_pooling: bool = False,
    batch_size: int | None = None,
    precision: str | None = None,
    options: Mapping[str, Any] | None = None,
    speed: bool = True,
    largest: bool | None = None,
    allow_code: bool = False,
    runtime: Runtime | None = None,
) -> list[dict[str, Any]]:
    """Measure what models cost: parameters, multiply-adds, clips a second, memory, the largest batch. A row a model.

    `names`: models, or folders of runs or studies. A run is measured as its recipe trains it, and the answer kept in its
    speed.json; of a study, one finished run of every setting is. `speed`: False only counts. `largest`: search for the
    largest batch; none: for models, not for runs. `options`: of a model's builder. Raises UserError.
    """
    from muybridge.storage.bundle import check_writable
    from muybridge.training import speed as measuring
    from muybridge.zoo import entries
    from muybridge.zoo.count import count, natural_input

    entry_names = {entry.name for entry in entries()}
    asked = _names(names)
    folders = {name: _measured_runs(Path(name)) for name in asked if name not in entry_names and is_folder(name)}
    given = {
        "--num-classes": num_classes, "--num-frames": num_frames, "--size": size, "--batch-size": batch_size,
        "--temporal-pooling": temporal_pooling, "--precision": precision, "--set model.options": options,
    }  # fmt: skip
    extra = [option for option, value in given.items() if value]
    if folders and extra:
        raise UserError(
            f"{extra[0]}: it does not apply to {next(iter(folders))}, which is measured as it was trained. Use it "
            "with names of models"
        )
    rows: list[dict[str, Any]] = []
    with measuring.Measuring() as process:
        for name in asked:
            for run in folders.get(name, ()):
                row = {"run": name if Path(name).is_file() else str(run.path), **run.cost()}
                if speed:
                    check_writable(run.path)
                    row |= measuring.measure_run(
                        run, runtime=runtime, largest=bool(largest), allow_code=allow_code, process=process
                    ).as_json()
                rows.append(row)
            if name in folders:
                continue
            model, more = name, dict(options or {})
            frames, side = natural_input(model, temporal_pooling=temporal_pooling, **more)
            _check_size(model, size, side)
            if speed and not side:
                raise UserError(
                    f"{model}: it takes stored vectors, and how fast they come depends on them. Measure a run of it, or count "
                    "only: --no-speed"
                )
            clip = {"num_classes": num_classes or 10, "num_frames": num_frames or frames, "size": size or side}
            row = count(model, **clip, temporal_pooling=temporal_pooling, **more).as_json()
            if speed:
                row |= measuring.measure_model(
                    model, **clip, temporal_pooling=temporal_pooling, batch_size=batch_size or 8,
                    precision=precision or "auto", runtime=runtime, options=more, largest=largest is not False, process=process,
                ).as_json()  # fmt: skip
            rows.append(row)
    return rows


def models(
    name: str | None = None,
    *,
    num_classes: int = 10,
    num_frames: int | None = None,
    size: int | None = None,
    temporal_pooling: bool = False,
    draw: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Every model with its usual input and public weights (`models`); or, by its name, one model's `layers` for one clip.

    A model of stored vectors has the size 0, and `in_channels` says how many values they have: 1,024. Without `num_frames`
    each model has its `conv_macs` for one clip of its usual input, too. `options`: of the model's builder. Raises UserError.
    `draw`: a new SVG of the model's structure, which is then part of the answer (`structure`, see `zoo.structure`).
    """
    if draw is not None:
        from muybridge.reporting.drawing import check_drawing, write_drawing

        if name is None:
            raise UserError("--draw: a drawing shows one model. Name it")
        check_drawing(Path(draw))
    if name is None and num_frames is None:  # from the table that is shipped: without torch, at once
        rows = json.loads((Path(__file__).parent / "zoo" / "table.json").read_text(encoding="utf-8"))
        for row in rows:
            row["params"] += num_classes * row.pop("params_per_class")
        return {"num_classes": num_classes, "models": rows}

    from muybridge.zoo.count import layers, listing, natural_input, outline

    if name is None:
        return {"num_classes": num_classes, "models": listing(num_classes=num_classes, num_frames=num_frames)}
    allow(name)
    more = dict(options or {})
    with explained(name) if parsed(name).code is not None else nullcontext():
        frames, side = natural_input(name, temporal_pooling=temporal_pooling, **more)
        _check_size(name, size, side)
        frames, side = num_frames or frames, size or side
        model = outline(name, num_classes=num_classes, num_frames=frames, temporal_pooling=temporal_pooling, **more)
        measured = layers(model, num_frames=frames, size=side)
        shown = None
        if draw is not None:
            from muybridge.zoo.structure import structure

            shown = structure(model, num_frames=frames, size=side)
    value = {
        "model": name, "num_classes": num_classes, "num_frames": frames, "size": side,
        "in_channels": model.in_channels,
        "temporal_pooling": temporal_pooling,
        **{key: sum(getattr(layer, key) for layer in measured) for key in ("params", "conv_macs", "macs")},
        "weights": sorted(model.published), "layers": [layer.as_json() for layer in measured],
    }  # fmt: skip
    if draw is not None and shown is not None:
        value["structure"] = shown.as_json()
        write_drawing(Path(draw), value)
        value["drawing"] = str(draw)
    return value


def _check_size(name: str, size: int | None, natural: int) -> None:
    """Raise UserError for a size of vectors, whose `natural` one is 0."""
    if size and not natural:
        raise UserError(f"--size: {name} takes stored vectors, which have no height and width. Leave it out")


def recipes(name: str | None = None, *, fields: bool = False) -> dict[str, Any]:
    """Every shipped recipe (`recipes`: name, summary, source, published result); or, by its name, one `recipe` in full.

    `name`: a shipped recipe, `mine.py:function`, or a JSON file. `fields`: instead, all `fields` of a recipe and of the
    runtime, each with its value in the recipe (without a name: the default) and its meaning. Raises UserError.
    """
    if fields:
        shown = Recipe() if name is None else shipped.load(name)
        values = {**flat(shown), **flat(Runtime(), "runtime."), "model.options": shown.model.options}
        texts = {**meanings(Recipe), **meanings(Runtime, "runtime.")}
        return {"fields": {field: {"value": values.get(field), "meaning": text} for field, text in texts.items()}}
    if name is None:
        return {"recipes": [vars(shipped.about(each)) for each in shipped.SHIPPED]}
    recipe = shipped.load(name)
    return {**(vars(shipped.about(name)) if name in shipped.SHIPPED else {"name": name}), "recipe": recipe.model_dump()}


def runs(
    folders: str | Path | Sequence[str | Path] = ".",
    *,
    states: Sequence[str] | None = None,
    trials: bool = False,
    unreadable: Callable[[OSError], None] | None = None,
) -> list[Standing]:
    """Runs at any depth below folders, and how far each has come, in the order of their paths.

    `states`: only runs in these (see `muybridge.storage.run.State`). `trials`: also those of searches (`compare --search`).
    `unreadable` hears of folders that cannot be looked into; none: they are raised. Raises UserError.
    """
    wanted = STATES if states is None else states
    for state in wanted:
        if state not in STATES:
            raise UserError(f"--state: '{state}' is unknown. {nearest(state, STATES)}")
    places = [folders] if isinstance(folders, str | Path) else folders
    unique = {run.path.resolve(): run for place in places for run in find(place, unreadable=unreadable)}
    standings = [standing(run) for run in unique.values() if trials or not run.is_trial]
    return sorted(
        (about for about in standings if about.state in wanted), key=lambda about: Path(about.shown_path).parts
    )


def _names(given: str | Path | Run | Sequence[str | Path | Run]) -> list[str]:
    """Names as they were given: ./x is a folder, x may be a model."""
    several = [given] if isinstance(given, str | Path | Run) else given
    return [str(one.path if isinstance(one, Run) else one) for one in several]


def is_folder(name: str) -> bool:
    """Is it a folder or a bundle, or what could only be one, and no model's name?"""
    from muybridge.storage.bundle import SUFFIX

    return Path(name).is_dir() or Path(name).suffix == SUFFIX or (os.sep in name and ":" not in name)


def _measured_runs(path: Path) -> list[Run]:
    """A run; or of a study the first finished run of every setting. What is not finished is said."""
    from muybridge.storage.study import StudyRecord
    from muybridge.studies.plan import repeat_name

    if not (path / "study.json").exists():
        return [Run.open(path)]
    record = StudyRecord.load(path)
    trained = [name for name in record.runs if not record.run(name).is_fused]
    left_out = [name for name in trained if not record.run(name).is_finished]
    if len(left_out) == len(trained):
        raise UserError(
            f"{path}: no run of this study is finished. Continue it, or name one run alone: {path / 'runs' / 'NAME'}"
        )
    if left_out:
        log(f"{path}: left out, as not finished: {', '.join(left_out)}")
    settings: dict[str, Run] = {}
    for name in trained:
        if name not in left_out:
            recipe = record.run(name).recipe()
            settings.setdefault(name.removesuffix(repeat_name("", recipe.seed, recipe.data.fold)), record.run(name))
    return list(settings.values())
