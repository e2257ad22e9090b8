"""Searches: the same for every setting, on val alone; their ladders, budgets and spaces; what is gone on with."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
from same_bits import everything

from muybridge import api
from muybridge.analysis.searching import Ladder, best_trial, most_trials
from muybridge.data.manifest import Manifest
from muybridge.data.prepare.prepare import prepare
from muybridge.errors import UserError
from muybridge.recipe import Recipe, diff, replace
from muybridge.recipe.schedule import budget
from muybridge.storage import searches
from muybridge.storage.run import Run
from muybridge.studies import asked, workplace
from muybridge.studies import search as searching
from muybridge.studies.asked import Search
from muybridge.studies.proposals import Proposed
from muybridge.studies.space import Space
from muybridge.training import loop as training

TINY = {
    "clip.size": 32, "clip.short_side": 36, "optim.batch_size": 16, "model.dropout": 0.0, "augment.crop": "center",
    "precision": "fp32",
}  # fmt: skip


def values_of(trial):
    """Learning rate and weight decay of a trial."""
    return trial["changes"]["optim.lr"], trial["changes"]["optim.weight_decay"]


# --- the same search for every model


def tuned(recipe, out, **named):
    return api.compare(
        ["tsn_resnet_tiny", "tsm_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=out, **named
    )


@pytest.fixture(scope="module")
def searched(recipe, tmp_path_factory):
    short = replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0, "evaluation.num_clips": 1})
    return short, tuned(short, tmp_path_factory.mktemp("tuned") / "study", seeds=(0, 1), tune=3)


def test_every_model_has_the_same_search_and_no_trial_sees_the_test_split(searched):
    recipe, compared = searched
    told = json.loads((compared.path / "search.json").read_text())["settings"]
    assert list(told) == ["tsn_resnet_tiny", "tsm_resnet_tiny"]
    tried = {name: [values_of(t) for t in known["trials"]] for name, known in told.items()}
    assert tried["tsn_resnet_tiny"] == tried["tsm_resnet_tiny"]
    assert tried["tsn_resnet_tiny"][0] == (recipe.optim.lr, recipe.optim.weight_decay)
    assert len(set(tried["tsn_resnet_tiny"])) == 3
    trials = [Run(compared.path / t["run"]) for known in told.values() for t in known["trials"]]
    for trial in trials:
        assert "test" not in trial.result()
        assert not (trial.path / "scores" / "test.npz").exists()
        assert trial.recipe().seed == searching.SEARCH_SEED
    assert len({trial.path for trial in trials}) == 6
    for run in compared.runs:
        assert run.recipe().seed in (0, 1)
        assert "test" in run.result()


def test_the_best_on_val_is_trained_with_fresh_seeds(searched):
    _, compared = searched
    told = json.loads((compared.path / "search.json").read_text())["settings"]
    for name, known in told.items():
        best = min(known["trials"], key=lambda t: (-t["rungs"][-1]["val_video_top1"], t["rungs"][-1]["val_loss"]))
        assert known["trials"][known["chosen"]] == best
        for run in compared.runs:
            if run.recipe().model.name == name:
                assert (run.recipe().optim.lr, run.recipe().optim.weight_decay) == values_of(best)
    assert compared.comparison.differences == {}, "that models have rates of their own is what tuning is for"
    assert len(compared.comparison.models) == 2
    notes = " ".join(compared.comparison.notes)
    assert "No trial saw the test split" in notes
    assert all(f"{name}: optim.lr " in notes for name in told)
    assert "of 3), video accuracy" in notes


def test_a_trial_multiplies_where_the_warm_up_starts_too(recipe):
    start = replace(recipe, {"optim.warmup_lr": 0.01})
    made = replace(start, asked._times(start, 2.0, 3.0))
    assert set(diff(start, made)) == {"optim.lr", "optim.warmup_lr", "optim.weight_decay"}
    assert (made.optim.lr, made.optim.warmup_lr, made.optim.weight_decay) == pytest.approx((0.04, 0.02, 1.5e-3))
    assert "optim.warmup_lr" not in asked._times(recipe, 2.0, 3.0)


def search(data, *values, chosen=0):
    trials = [
        {"changes": {"optim.lr": lr, "optim.weight_decay": decay}, "rungs": [{"val_video_top1": 0.5}]}
        for lr, decay in values
    ]
    how = {"space": ["--tune"], "by": "halton", "budget": f"{len(values)} trials", "halving": 0}
    return {"axes": {"data": data}, "asked": how, "trials": trials, "chosen": chosen}


def notes(searches, called="set", **rates):
    """Of runs of seed 0 with these learning rates, and a weight decay of 0."""
    recipes = {
        f"{name}-seed0": replace(Recipe(), {"optim.lr": lr, "optim.weight_decay": 0}) for name, lr in rates.items()
    }
    return searching.notes(searches, called, recipes)


def test_a_report_tells_the_searches_that_its_runs_were_trained_by():
    two = {"a": search("set", (0.1, 0), (0.2, 0), chosen=1), "b": search("set", (0.1, 0), (0.2, 0))}
    general, *each = notes(two, a=0.2, b=0.1)
    assert "with the same 2 trials for each" in general
    assert [note[:2] for note in each] == ["a:", "b:"]
    assert "trial 2 of 2" in each[0]
    assert notes(two, called="other", a=0.2, b=0.1) == [], "another set's search"
    assert notes({}, a=0.2) == []


def test_searches_that_are_unequal_missing_or_from_elsewhere_are_told():
    two = {"a": search("set", (0.1, 0), (0.2, 0)), "b": search("set", (0.1, 0), (0.2, 0), (0.3, 0))}
    assert "unequal numbers of trials (2 for a; 3 for b)" in notes(two, a=0.1, b=0.1)[0]
    assert not any("differ" in note for note in notes(two, a=0.1, b=0.1))
    said = notes(two, a=0.1, c=0.1)
    assert "with the same 2 trials for each" in said[0]
    assert said[1].startswith("Trained without a search, by the recipe's values: c-seed0.")
    assert not any(note.startswith("b:") for note in said)
    unused = notes(two, a=0.1, b=0.3)
    assert "Trained without a search, by the recipe's values: b-seed0." in unused[1], "trial 3 was not chosen"
    apart = {"a": search("set", (0.1, 0), (0.2, 0)), "b": search("set", (0.5, 0), (0.1, 0), chosen=1)}
    assert (
        "The recipes' values, with which the searches begin, differ: optim.lr 0.1, optim.weight_decay 0 for a; optim.lr 0.5, "
        "optim.weight_decay 0 for b."
    ) in notes(apart, a=0.1, b=0.1)


def test_a_search_that_would_not_be_used_is_refused_before_the_first_trial(searched, monkeypatch):
    recipe, compared = searched
    before = (compared.path / "search.json").read_text()
    began = []
    monkeypatch.setattr(workplace, "finish", lambda run, job, **named: began.append(run.path))
    with pytest.raises(
        UserError, match=r"was trained after a search of 3 trials .*5 trials now might choose otherwise"
    ):
        tuned(recipe, compared.path, tune=5)
    with pytest.raises(UserError, match=r"trial-0: it holds a run of another recipe \(optim\.lr was 0\.02, is 0\.5"):
        tuned(replace(recipe, {"optim.lr": 0.5}), compared.path, seeds=(2,), tune=3)
    assert began == []
    assert (compared.path / "search.json").read_text() == before


def test_models_that_were_not_searched_are_told_and_not_searched_later(searched, tmp_path, monkeypatch):
    recipe, compared = searched
    shutil.copytree(compared.path, tmp_path / "study")
    grown = api.compare(["tam_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=tmp_path / "study")
    told = " ".join(grown.comparison.notes)
    assert "with the same 3 trials for each" in told
    assert "Trained without a search, by the recipe's values: tam_resnet_tiny-seed0." in told
    began = []
    monkeypatch.setattr(workplace, "finish", lambda run, job, **named: began.append(run.path))
    with pytest.raises(
        UserError, match="tam_resnet_tiny-seed0: it was trained without a search, and 3 trials now might choose"
    ):
        api.compare(
            ["tam_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=tmp_path / "study", seeds=(0, 1), tune=3
        )
    assert began == []


def test_accuracy_on_val_comes_before_loss_and_loss_before_order():
    def trial(accuracy, loss):
        return {"rungs": [{"val_video_top1": accuracy, "val_loss": loss}]}

    lost = {"failed": "nan", "rungs": []}
    assert best_trial([trial(0.5, 0.1), trial(0.7, 0.9), trial(0.6, 0.2)]) == 1
    assert best_trial([trial(0.7, 0.9), trial(0.7, 0.3), trial(0.7, 0.3)]) == 1
    assert best_trial([lost, trial(0.0, 9.0)]) == 1
    assert best_trial([lost]) is None
    further = {"rungs": trial(0.2, 1.0)["rungs"] * 2}
    assert best_trial([trial(0.9, 0.1), further]) == 1, "what paused below is not what came to its end"


def test_a_search_is_gone_on_with(searched, monkeypatch):
    recipe, compared = searched
    begun = []
    monkeypatch.setattr(workplace, "finish", lambda run, job, **named: begun.append(run.path))
    again = tuned(recipe, compared.path, seeds=(0, 1), tune=3)
    assert begun == []
    assert [run.name for run in again.runs] == [run.name for run in compared.runs]


def test_more_trials_begin_with_the_same_ones():
    assert asked.factors(1) == [(1.0, 1.0)]
    assert asked.factors(9)[:5] == asked.factors(5)
    assert len({lr for lr, _ in asked.factors(30)}) == 30, "a weight decay of 0 stays 0, and no trial is made twice"
    values = [value for pair in asked.factors(40)[1:] for value in pair]
    assert min(values) < 0.2
    assert max(values) > 5
    assert all(0.1 <= value <= 10 for value in values)
    assert sum(value < 1 for value in values) == pytest.approx(len(values) / 2, abs=3)


def test_a_trial_that_diverges_is_lost_and_no_more(searched, tmp_path, monkeypatch):
    recipe, _ = searched
    step = training.training_step

    def diverging(model, optimizer, batch, where, recipe, **named):
        loss, right = step(model, optimizer, batch, where, recipe, **named)
        return (float("nan") if recipe.optim.lr > 0.02 else loss), right

    monkeypatch.setattr(training, "training_step", diverging)
    out = tmp_path / "study"
    compared = api.compare(["tsn_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=out, tune=4)
    trials = json.loads((out / "search.json").read_text())["settings"]["tsn_resnet_tiny"]["trials"]
    lost = [trial for trial in trials if trial["changes"]["optim.lr"] > 0.02]
    assert lost
    assert all("loss: it became nan" in trial["failed"] for trial in lost)
    assert len(lost) < len(trials)
    assert compared.runs[0].recipe().optim.lr <= 0.02
    began = []
    monkeypatch.setattr(workplace, "finish", lambda run, job, **named: began.append(run.path))
    api.compare(["tsn_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=out, tune=4)
    assert began == [], "it would diverge again"
    monkeypatch.undo()
    monkeypatch.setattr(training, "training_step", lambda *a, **named: (float("nan"), 0))
    with pytest.raises(
        UserError, match=r"not one of 2 trials came to an end\. Mend the cause of the last: loss: it became nan"
    ):
        api.compare(["tsm_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=tmp_path / "none", tune=2)


def test_without_validation_videos_there_is_no_search(made_set, recipe, tmp_path):
    manifest = Manifest.load(made_set)
    manifest = dataclasses.replace(manifest, columns={name: of.copy() for name, of in manifest.columns.items()})
    manifest.columns["split"][manifest.columns["split"] == b"val"] = b"train"
    manifest.save(tmp_path / "set.csv")
    with pytest.raises(UserError, match="no validation videos to search on"):
        tuned(replace(recipe, {"data.manifest": str(tmp_path / "set.csv")}), tmp_path / "study", tune=2)
    assert not (tmp_path / "study").exists()
    with pytest.raises(UserError, match="is that of the trials"):
        tuned(recipe, tmp_path / "study", tune=2, seeds=(searching.SEARCH_SEED,))


@pytest.mark.slow
def test_a_chain_is_searched_link_by_link(made_set, tmp_path):
    """Trials of 16 frames start from the best trial of 8; folds have a search of their own each."""
    compared = api.compare(
        ["tsm_resnet_tiny"], data=made_set, out=tmp_path / "study", study="mini", only={"num_frames": [8, 16]},
        shorten=0.01, changes={**TINY, "model.pretrained": None}, tune=2,
    )  # fmt: skip
    told = json.loads((compared.path / "search.json").read_text())["settings"]
    best = told["tsm_resnet_tiny-8f"]["trials"][told["tsm_resnet_tiny-8f"]["chosen"]]["run"]
    for trial in told["tsm_resnet_tiny-16f"]["trials"]:
        start = Path(Run(compared.path / trial["run"]).recipe().model.pretrained)
        assert start.is_relative_to((compared.path / best).resolve())
    final = compared.path / "runs" / "tsm_resnet_tiny-16f-seed0"
    assert Path(Run(final).recipe().model.pretrained).is_relative_to(
        (compared.path / "runs" / "tsm_resnet_tiny-8f-seed0").resolve()
    )


@pytest.mark.slow
def test_each_fold_has_a_search_of_its_own_and_they_are_one_row(made_set, recipe, tmp_path):
    prepare(made_set.parent, out=tmp_path / "set.csv", folds=2, val=0.3)
    short = replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0, "data.manifest": str(tmp_path / "set.csv")})
    compared = api.compare(["tsm_resnet_tiny"], data=short.data.manifest, recipe=short, out=tmp_path / "study", tune=4)
    told = json.loads((compared.path / "search.json").read_text())["settings"]
    assert list(told) == ["tsm_resnet_tiny-fold1", "tsm_resnet_tiny-fold2"]
    assert {
        Run(compared.path / trial["run"]).recipe().data.fold for trial in told["tsm_resnet_tiny-fold2"]["trials"]
    } == {2}
    rates = {known["trials"][known["chosen"]]["changes"]["optim.lr"] for known in told.values()}
    assert {run.recipe().optim.lr for run in compared.runs} == rates
    (model,) = compared.comparison.models
    assert model.num_seeds == 1
    assert compared.comparison.differences == {}


# --- what is asked for


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("optim.lr=1e-4..1e-1:log", (1e-4, 0.1)),
        ("optim.lr=1e-4..1e-1:log:4", (1e-4, 1e-3, 1e-2, 1e-1)),
        ("model.dropout=0..0.8:5", (0, 0.2, 0.4, 0.6, 0.8)),
        ("optim.batch_size=8..32:3", (8, 20, 32)),
        ("clip.num_frames=8,16", (8, 16)),
        ("optim.schedule=cosine,steps", ("cosine", "steps")),
        ("optim.milestones=[1,2],[2,3]", ([1, 2], [2, 3])),
        ("optim.clip_grad_norm=none,5", (None, 5)),
    ],
)
def test_a_space_is_read_as_it_is_written(text, values):
    [dimension] = Space.parse([text]).dimensions
    assert dimension.values == (pytest.approx(values) if ".." in text else values)


@pytest.mark.parametrize(
    ("name", "low", "high", "whole"),
    [
        ("optim.epochs", 1, 9, True), ("model.dropout", 0, 1, False), ("clip.fps", 5, 25, False),
        ("model.options.layers", 1, 3, True), ("model.options.share", 0.5, 1, False),
    ],
)  # fmt: skip
def test_fields_of_whole_numbers_are_searched_in_whole_numbers(name, low, high, whole):
    """The type of the field says so, and of a model's option, which has none, the way its ends are written."""
    [dimension] = Space.parse([f"{name}={low}..{high}"]).dimensions
    assert dimension.whole is whole


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["optim.lr"], "is not FIELD=LOW"),
        (["optim.lr=1..x"], "ends that are not numbers"),
        (["optim.lr=2..1"], "no value between its ends"),
        (["optim.lr=0..1:log"], "no logarithm at 0"),
        (["optim.lr=0..1:2:3"], r"is not FIELD=LOW\.\.HIGH"),
        (["optim.batch_size=1.5..3"], "takes whole numbers"),
        (["clip.num_frames=8,8"], "a value twice"),
        (["optim.lr=1,2", "optim.lr=3,4"], "is given twice"),
        (["seed=1,2"], "Use --seeds"),
        (["model.name=a,b"], "Use --models"),
        (["evaluation.score_test=true,false"], "filled in by the search"),
        (["no/such.py:space"], "no such file"),
        (["optim.lr=1..2:99999999999"], r"is not FIELD=LOW\.\.HIGH"),
        (["optim.lr=1..2:9999"], "more than 1,000 values"),
        (["optim.lr=" + ",".join(map(str, range(1, 1003)))], "more than 1,000 values"),
        (["optim.lr=1..2:" + "9" * 5000], r"optim\.lr=1\.\.2:9+…' is not FIELD"),
        (["clip.num_frames=1..1e300"], r"clip\.num_frames=1\.\.1e300' has ends that are too large"),
    ],
)
def test_a_space_that_cannot_be_is_refused(texts, message):
    with pytest.raises(UserError, match=message):
        Space.parse(texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 3}, "--trials: nothing is searched"),
        ({"halving": 3}, "--halving: nothing is searched"),
        ({"search": ["optim.lr=1,2"], "trials": 3, "hours": 1.0}, "--search-hours: --trials is given, too"),
        ({"search": ["optim.lr=1,2"], "by": "grid", "trials": 3}, "as many trials as points"),
        ({"search": ["optim.lr=1..2"], "by": "grid"}, "range without a number of values"),
        ({"search": ["optim.lr=1,2"], "by": "bayes"}, "'bayes' is unknown"),
        ({"search": ["optim.lr=1,2"], "halving": 1}, "keeps every trial"),
        ({"search": ["optim.lr=1,2"], "epochs": 0.0}, "not above 0"),
        ({"search": ["optim.lr=1,2"], "epochs": float("inf")}, "--search-epochs: inf is not a number to count to"),
        ({"search": ["optim.lr=1,2"], "hours": float("nan")}, "--search-hours: nan is not a number to count to"),
        ({"search": ["optim.lr=1..2"], "trials": 10_001}, "--trials: more than 10,000 are too many"),
        ({"tune": 10_000_000}, "--tune: more than 10,000 are too many"),
        ({"search": ["optim.lr=1,2"], "tune": 2}, "--tune: it is a search of its own"),
    ],
)
def test_options_of_a_search_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Search.of(**options)


def test_a_grid_has_every_point_once():
    grid = Search.of(["optim.lr=1e-3..1e-1:log:3", "clip.num_frames=4,8", "optim.epochs=1..2"], by="grid")
    points = grid.points(Recipe())
    assert len(points) == grid.trials == 12
    assert len({tuple(point.values()) for point in points}) == 12
    assert points[0] == {"optim.lr": 1e-3, "clip.num_frames": 4, "optim.epochs": 1}


# --- ladders


def length(epochs, videos=160):
    return budget(replace(Recipe(), {"optim.epochs": epochs, "optim.batch_size": 16}), videos)


def test_a_ladder_by_hand():
    """16 trials of 9 epochs of 10 steps: 16 × 1, 5 × 3, 1 × 9 epochs, each after what it was trained for before."""
    ladder = Ladder.of(16, length(9), 3)
    assert [ladder.step(rung, length(9)) for rung in range(3)] == [10, 30, None]
    assert [ladder.kept(rung, 16) for rung in range(3)] == [16, 5, 1]
    assert ladder.steps(16, length(9)) == 16 * 10 + 5 * 20 + 1 * 60
    assert Ladder.of(16, length(9), 0).steps(16, length(9)) == 16 * 90
    assert Ladder.of(2, length(9), 3).levels == 0, "of two, a third is none"
    assert Ladder.of(81, length(9), 3).levels == 2, "no rung is shorter than an epoch"
    assert [Ladder.of(16, length(1, 1600), 4).step(rung, length(1, 1600)) for rung in (0, 1)] == [25, None]


@pytest.mark.parametrize(("epochs", "eta"), [(9, 0), (9, 8), (40, 3), (100, 3), (8.5, 3), (12, 2)])
def test_a_budget_of_epochs_is_used_and_not_passed(epochs, eta):
    def cost(trials):
        return Ladder.of(trials, length(9), eta).steps(trials, length(9)) / 10

    most = most_trials(epochs, length(9), eta)
    assert most == max((trials for trials in range(1, 500) if cost(trials) <= epochs), default=0)


# --- searches by Optuna, with halving

LONG = {"optim.epochs": 9, "optim.warmup_epochs": 1, "evaluation.num_clips": 1, "evaluation.num_crops": 1}
ASKED = {"search": ["optim.lr=1e-4..1:log"], "trials": 9, "halving": 3, "seeds": (0, 1)}


@pytest.fixture(scope="module")
def halved(recipe, tmp_path_factory):
    """A study whose search was stopped twice on the way, and gone on with."""
    long, out, step = replace(recipe, LONG), tmp_path_factory.mktemp("halved") / "study", training.training_step
    for stop_after in (20, 17):
        calls = []

        def until(*arguments, calls=calls, stop_after=stop_after, **named):
            calls.append(None)
            if len(calls) > stop_after:
                raise KeyboardInterrupt
            return step(*arguments, **named)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(training, "training_step", until)
            with pytest.raises(KeyboardInterrupt):
                api.compare(["tsm_resnet_tiny"], data=long.data.manifest, recipe=long, out=out, **ASKED)
    compared = api.compare(["tsm_resnet_tiny"], data=long.data.manifest, recipe=long, out=out, **ASKED)
    return long, compared, record_of(compared)


def record_of(compared, name="tsm_resnet_tiny"):
    return json.loads((compared.path / "search.json").read_text())["settings"][name]


def without_times(record):
    return record | {"trials": [{k: v for k, v in trial.items() if k != "seconds"} for trial in record["trials"]]}


def test_halving_goes_on_with_the_best_alone(halved):
    _, compared, record = halved
    trials = record["trials"]
    assert [len(trial["rungs"]) for trial in trials].count(1) == 6
    assert sorted(trial["steps"] for trial in trials) == [3] * 6 + [9, 9, 27]
    for rung in (0, 1):
        there = sorted(
            (t for t in trials if len(t["rungs"]) > rung),
            key=lambda t: (-t["rungs"][rung]["val_video_top1"], t["rungs"][rung]["val_loss"]),
        )  # fmt: skip
        on = [t for t in there if len(t["rungs"]) > rung + 1]
        assert on == there[: len(on)]
    assert trials[record["chosen"]]["steps"] == 27
    for trial in trials:
        run = Run(compared.path / trial["run"])
        assert run.is_finished == (trial["steps"] == 27)
        assert not run.has_test_scores
    assert all(run.recipe().optim.lr == values_of_winner(record) for run in compared.runs)
    assert all(run.has_test_scores for run in compared.runs)


def values_of_winner(record):
    return record["trials"][record["chosen"]]["changes"]["optim.lr"]


def test_a_survivor_has_the_bits_of_a_training_that_never_paused(halved, tmp_path):
    _, compared, record = halved
    survivor = Run(compared.path / record["trials"][record["chosen"]]["run"])
    assert len(survivor.pauses()) == 2
    whole = training.train(survivor.recipe(), out=tmp_path / "run")
    assert everything(survivor) == everything(whole)


def test_a_search_that_was_stopped_proposes_and_decides_alike(halved, tmp_path):
    long, _, record = halved
    whole = api.compare(["tsm_resnet_tiny"], data=long.data.manifest, recipe=long, out=tmp_path / "study", **ASKED)
    assert without_times(record_of(whole)) == without_times(record)
    assert len({trial["changes"]["optim.lr"] for trial in record["trials"]}) == 9


def test_a_search_that_is_finished_is_not_repeated(halved, monkeypatch):
    long, compared, record = halved
    began = []
    monkeypatch.setattr(workplace, "finish", lambda run, job, **named: began.append(run.path))
    api.compare(["tsm_resnet_tiny"], data=long.data.manifest, recipe=long, out=compared.path, **ASKED)
    assert began == []
    assert record_of(compared) == record
    with pytest.raises(UserError, match="now might choose otherwise"):
        api.compare(
            ["tsm_resnet_tiny"], data=long.data.manifest, recipe=long, out=compared.path, **ASKED | {"trials": 10}
        )
    with pytest.raises(UserError, match="it was searched otherwise here"):
        api.compare(
            ["tsm_resnet_tiny"],
            data=long.data.manifest,
            recipe=long,
            out=compared.path,
            **ASKED | {"search_by": "random"},
        )


def test_what_was_spent_and_what_did_not_last_are_told(halved):
    _, compared, record = halved
    [told] = compared.comparison.as_json()["searches"]
    assert told["epochs"] == (6 * 3 + 2 * 9 + 27) / 3
    assert told["share"] == pytest.approx(63 / (9 * 27))
    fresh = [run.result()["val"]["video_top1"] for run in compared.runs]
    winner = Run(compared.path / record["trials"][record["chosen"]]["run"]).result()["val"]["video_top1"]
    assert told["val_in_search"] == winner
    assert told["gap"] == pytest.approx(winner - sum(fresh) / 2)
    text = (compared.path / "report.md").read_text()
    assert "26% of 9 whole trainings" in text
    assert "2 fresh seeds" in text


def test_a_function_of_the_users_proposes_with_conditions(recipe, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def space(trial):\n"
        "    optimizer = trial.suggest_categorical('optimizer', ['sgd', 'adamw'])\n"
        "    low, high = (1e-3, 1e-1) if optimizer == 'sgd' else (1e-5, 1e-4)\n"
        "    return {'optim.optimizer': optimizer, 'optim.lr': trial.suggest_float(f'lr_{optimizer}', low, high, log=True)}\n"
        "def wrong(trial):\n"
        "    return {'optim.learning_rate': 1}\n"
    )
    short = replace(recipe, {**LONG, "optim.epochs": 1, "optim.warmup_epochs": 0})
    named = {"data": short.data.manifest, "recipe": short, "trials": 6, "search_by": "random"}
    compared = api.compare(
        ["tsm_resnet_tiny"], out=tmp_path / "study", search=[f"{tmp_path / 'mine.py'}:space", "clip.num_frames=4,8"], **named
    )  # fmt: skip
    tried = [trial["changes"] for trial in record_of(compared)["trials"]]
    assert {changes["optim.optimizer"] for changes in tried} == {"sgd", "adamw"}
    assert all((changes["optim.lr"] < 5e-4) == (changes["optim.optimizer"] == "adamw") for changes in tried)
    assert compared.comparison.differences == {}
    with pytest.raises(UserError, match=r"learning_rate: a recipe has no such field"):
        api.compare(["tsm_resnet_tiny"], out=tmp_path / "none", search=[f"{tmp_path / 'mine.py'}:wrong"], **named)
    assert not (tmp_path / "none").exists()
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text().replace("1e-1)", "1e-2)"))
    with pytest.raises(UserError, match=r"mine\.py:space has changed since the search began"):
        api.compare(
            ["tsm_resnet_tiny"], out=tmp_path / "study", search=[f"{tmp_path / 'mine.py'}:space", "clip.num_frames=4,8"], **named
        )  # fmt: skip


def test_epochs_are_counted_by_each_trials_own_batches(recipe, tmp_path):
    short = replace(recipe, {**LONG, "optim.epochs": 2, "optim.warmup_epochs": 0})
    compared = api.compare(
        ["tsm_resnet_tiny"], out=tmp_path / "study", data=short.data.manifest, recipe=short,
        search=["optim.batch_size=4,8,40"], search_by="grid",
    )  # fmt: skip
    assert len({trial["steps"] for trial in record_of(compared)["trials"]}) == 3
    [told] = compared.comparison.as_json()["searches"]
    assert told["epochs"] == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"search": ["optim.epochs=2,20"], "search_epochs": 300.0, "search_by": "random"},
            "a trial may take 20 epochs instead of",
        ),
        ({"search": ["optim.lr=1,2"], "search_epochs": 1e300}, r"1e\+300 epochs are more than 10,000 trials"),
        ({"search": ["optim.learning_rate=1,2"]}, "has no such field"),
        ({"search": ["optim.lr=-1,2"]}, "optim.lr -1: recipe: optim.lr"),
        ({"search": ["optim.lr=1,2"], "search_epochs": 1.0}, "fewer than one trial takes"),
        ({"search": ["optim.lr=1,2"], "trials": 2, "halving": 3}, "cannot be cut into rungs"),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_anything_is_written(recipe, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        api.compare(["tsm_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=tmp_path / "study", **options)
    assert not (tmp_path / "study").exists()


def test_hours_are_a_budget_by_the_pace_of_the_trials_before(recipe, tmp_path):
    short = replace(recipe, {**LONG, "optim.epochs": 2})
    named = {"data": short.data.manifest, "recipe": short, "search": ["optim.lr=1e-4..1:log"], "search_by": "random"}
    compared = api.compare(["tsm_resnet_tiny"], out=tmp_path / "study", search_hours=1e-7, **named)
    assert len(record_of(compared)["trials"]) == 1, "one at least"
    seconds = record_of(compared)["trials"][0]["seconds"]
    more = api.compare(["tsm_resnet_tiny"], out=tmp_path / "more", search_hours=6 * seconds / 3600, **named)
    trials = record_of(more)["trials"]
    assert 1 < len(trials) < 30
    assert sum(trial["seconds"] for trial in trials[:-1]) <= 6 * seconds


def test_a_study_that_an_earlier_version_searched_goes_on(searched, tmp_path, monkeypatch):
    recipe, compared = searched
    former = tmp_path / "study"
    shutil.copytree(compared.path, former)
    (former / "search").rename(former / "tuning")
    content = json.loads((former / "search.json").read_text())
    (former / "search.json").unlink()
    for known in content["settings"].values():
        known["trials"] = [
            {"run": trial["run"].replace("search/", "tuning/"), "lr": values_of(trial)[0],
             "weight_decay": values_of(trial)[1], "fingerprint": trial["fingerprint"],
             "val_video_top1": trial["rungs"][0]["val_video_top1"], "val_loss": trial["rungs"][0]["val_loss"]}
            for trial in known["trials"]
        ]  # fmt: skip
        known.pop("asked"), known.pop("steps_per_epoch"), known.pop("importance")
    (former / "tuning.json").write_text(json.dumps({"format_version": 1, "seed": searching.SEARCH_SEED, **content}))
    assert Run(former / "tuning" / "tsm_resnet_tiny" / "trial-0").is_trial
    report = api.compare(["tsn_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=former)
    assert "with the same 3 trials for each" in " ".join(report.comparison.notes)
    began = []
    monkeypatch.setattr(workplace, "finish", lambda run, job, **named: began.append(run.path))
    again = tuned(recipe, former, seeds=(0, 1), tune=3)
    assert began == []
    assert again.comparison.notes == compared.comparison.notes


# --- what others have written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content, first: content.update(format_version=9), "it has format_version 9, but this muybridge reads 1"),
        (lambda content, first: first["trials"][0].update(run="/etc"), "'/etc' leads out of the study. Restore it"),
        (lambda content, first: first["trials"][0].update(run="../x"), "'../x' leads out of the study. Restore it"),
        (lambda content, first: first["trials"][0].update(seconds=float("nan")), "seconds"),
        (lambda content, first: first["trials"][0].update(steps=10**300), "steps"),
        (lambda content, first: first.update(steps_per_epoch=-1), "steps_per_epoch"),
        (lambda content, first: first.update(importance={"optim.lr": float("nan")}), "importance"),
    ],
)  # fmt: skip
def test_a_damaged_record_of_a_search_is_named(searched, tmp_path, change, message):
    content = json.loads((searched[1].path / "search.json").read_text())
    change(content, next(iter(content["settings"].values())))
    (tmp_path / "search.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"search\.json: .*{message}"):
        searches.load(tmp_path)


def test_a_race_of_a_later_version_is_not_read_as_one_of_today(tmp_path):
    (tmp_path / "race.json").write_text('{"format_version": 2, "sets": {}}')
    with pytest.raises(UserError, match=r"race\.json: it has format_version 2, but this muybridge reads 1"):
        searches.load_races(tmp_path)


SPACE = Space.parse(["optim.lr=1e-4..1e-1:log"])


def proposed(out, numbers):
    """Trials that TPE proposes, each told an accuracy."""
    proposals = Proposed(out, "a", SPACE, "tpe", 0)
    changes = []
    for number in numbers:
        changes.append(proposals.changes(number))
        proposals.tell(number, number / 10)
    return changes


@pytest.fixture
def journal(tmp_path):
    """A journal of eight trials, and what they were."""
    return tmp_path / "search" / "journal.log", proposed(tmp_path, range(8))


@pytest.mark.parametrize("cut_bytes", [1, 30, 100])
def test_a_torn_line_of_the_journal_is_cut_and_proposed_again(journal, tmp_path, cut_bytes):
    file, changes = journal
    whole = file.read_bytes()
    last = whole.rstrip().rfind(b"\n") + 1
    file.write_bytes(whole[: max(last + 1, len(whole) - cut_bytes)])
    assert proposed(tmp_path, range(8)) == changes
    assert all(isinstance(json.loads(line), dict) for line in file.read_text().splitlines())


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"\xff\xfe\n",
        lambda whole: b'{"a": 1}\n',
        lambda whole: b"[]\n" + whole,
        lambda whole: b"[" * 100_000 + b"\n",
        lambda whole: b'{"op_code": 99}\n',
        lambda whole: whole.replace(b"\n", b"}\n", 3),
        lambda whole: whole.replace(b"optim.lr", b"model.name"),
    ],
)
def test_a_damaged_journal_is_named_and_nothing_of_it_is_lost(journal, tmp_path, damage):
    file, _ = journal
    file.write_bytes(damage(file.read_bytes()))
    before = file.read_bytes()
    for _ in range(2):
        with pytest.raises(UserError, match=r"journal\.log: it is damaged \(.*\)\. Restore it, or remove it"):
            proposed(tmp_path, [0])
    assert file.read_bytes().startswith(before)


def test_a_removed_journal_is_proposed_again_and_a_pipe_is_not_read(journal, tmp_path):
    file, changes = journal
    file.unlink()
    assert proposed(tmp_path, range(8)) == changes
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UserError, match="not a regular file"):
        proposed(tmp_path, [0])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {'optim.lr': object()}", r"it returned a 'object' for optim\.lr, which a recipe cannot hold\. Return"),
        ("raise SystemExit(3)", r"mine\.py:space, line 3: SystemExit: 3\. Correct this code"),
        ("raise ValueError('two\\n lines.')", r"line 3: ValueError: two lines\. Correct this code"),
    ],
)
def test_a_fault_of_a_users_function_is_named_in_one_line(tmp_path, body, message):
    (tmp_path / "mine.py").write_text(f"import numpy as np\ndef space(trial):\n    {body}\n")
    space = Space.parse([f"{tmp_path / 'mine.py'}:space"])
    for _ in range(2):  # what was proposed stays in the journal
        with pytest.raises(UserError, match=message):
            Proposed(tmp_path, "a", space, "random", 0).changes(0)


def test_numbers_of_numpy_are_numbers(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef space(trial):\n    return {'optim.lr': np.float32(0.5), 'optim.epochs': np.int64(3)}\n"
    )
    changes = Proposed(tmp_path, "a", Space.parse([f"{tmp_path / 'mine.py'}:space"]), "random", 0).changes(0)
    assert (changes, [type(value) for value in changes.values()]) == (
        {"optim.lr": 0.5, "optim.epochs": 3},
        [float, int],
    )


def test_a_trial_that_no_recipe_can_have_is_named(recipe, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def space(trial):\n    return {'optim.lr': 0.1 if trial.number == 0 else -1.0}\n"
    )
    short = replace(recipe, {**LONG, "optim.epochs": 1, "optim.warmup_epochs": 0})
    with pytest.raises(UserError, match=r"tsm_resnet_tiny: trial 2 \(optim\.lr -1\): .*optim\.lr"):
        api.compare(
            ["tsm_resnet_tiny"], out=tmp_path / "study", data=short.data.manifest, recipe=short, trials=2,
            search=[f"{tmp_path / 'mine.py'}:space"],
        )  # fmt: skip
