"""Who proposes the trials of a search: a list that is known beforehand, or Optuna."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from muybridge.errors import UserError
from muybridge.runtime.files import check_regular, owned, within
from muybridge.studies.space import Space

STARTUP_TRIALS = 5
"""Random trials before TPE begins to model."""


class Proposals(Protocol):
    """The trials of one setting, by their numbers: what it proposed once it proposes again."""

    def changes(self, number: int) -> dict[str, Any]:
        """Fields and values of a trial. Trials are asked for in order."""

    def tell(self, number: int, accuracy: float | None) -> None:
        """Tell the accuracy on val of a trial, on the first rung; None: it diverged."""

    def importance(self) -> dict[str, float]:
        """Share of each field in what tells the best trials from others; empty where it is not known."""


class Listed:
    """Trials that are known beforehand, as those of a grid."""

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        self.points = points

    def changes(self, number: int) -> dict[str, Any]:
        """Fields and values of a trial."""
        return dict(self.points[number])

    def tell(self, number: int, accuracy: float | None) -> None:
        """Nothing hangs on it."""

    def importance(self) -> dict[str, float]:
        """Not known: the list says no distributions."""
        return {}


class Proposed:
    """Trials that Optuna proposes, kept in a journal in the study's folder.

    The sampler of each trial is made anew, seeded by the trial's number: a search that was killed gets the same proposals.
    """

    def __init__(self, out: Path, setting: str, space: Space, by: str, seed: int) -> None:
        self.optuna, self.space, self.by, self.seed = imported(), space, by, seed
        journal = within(out, "search/journal.log")
        journal.parent.mkdir(parents=True, exist_ok=True)
        journals = self.optuna.storages.journal
        _cut_torn_line(journal, journals.JournalFileSymlinkLock(str(journal)))
        with _named(journal):
            storage = self.optuna.storages.JournalStorage(journals.JournalFileBackend(str(journal)))
            self.study = self.optuna.create_study(
                storage=storage, study_name=setting, direction="maximize", load_if_exists=True
            )
            for trial in self.study.get_trials(deepcopy=False):
                space.check(trial.user_attrs.get("changes"))

    def changes(self, number: int) -> dict[str, Any]:
        """Fields and values of a trial: those of the journal, or new ones."""
        known = self.study.get_trials(deepcopy=False)
        if number < len(known) and "changes" in known[number].user_attrs:
            return dict(known[number].user_attrs["changes"])
        self.study.sampler = sampler(self.optuna, self.by, self.seed + number)
        is_begun = number < len(known)  # and a process was killed before it said all
        trial = self.optuna.trial.Trial(self.study, known[number]._trial_id) if is_begun else self.study.ask()
        changes = self.space.suggest(trial)
        trial.set_user_attr("changes", changes)
        return changes

    def tell(self, number: int, accuracy: float | None) -> None:
        """Tell it, once."""
        state = self.optuna.trial.TrialState.PRUNED if accuracy is None else None
        self.study.tell(number, accuracy, state=state, skip_if_finished=True)

    def importance(self) -> dict[str, float]:
        """Importance by PED-ANOVA (Watanabe et al. 2023); empty for one field, fewer than four trials, or equal ones."""
        complete = [
            trial for trial in self.study.get_trials(deepcopy=False)
            if trial.state == self.optuna.trial.TrialState.COMPLETE
        ]  # fmt: skip
        if len(complete) < 4 or len({trial.value for trial in complete}) < 2:
            return {}
        evaluator = self.optuna.importance.PedAnovaImportanceEvaluator()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fields that few trials have, by a condition
            found: dict[str, float] = self.optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        return {name: float(share) for name, share in found.items()} if len(found) > 1 else {}


def _cut_torn_line(journal: Path, lock: Any) -> None:
    """Cut what a process that was killed wrote of a line; the same trial is proposed again."""
    check_regular(journal)
    if not journal.exists():
        return
    lock.acquire()  # nobody else is writing that line
    try:
        content = journal.read_bytes()
        whole_bytes = content.rfind(b"\n") + 1
        if whole_bytes < len(content):
            os.truncate(owned(journal), whole_bytes)
    finally:
        lock.release()


@contextmanager
def _named(journal: Path) -> Iterator[None]:
    """Report whatever Optuna stumbles over as damage of its journal."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise UserError(
            f"{journal}: it is damaged ({type(error).__name__}). Restore it, or remove it: the same trials are proposed again"
        ) from error


def imported() -> Any:
    """Optuna. Raises UserError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise UserError(
            "--search: Optuna, which proposes trials, is not installed. Install it: pip install 'muybridge[search]', or search a "
            "grid: --search-by grid"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def sampler(optuna: Any, by: str, seed: int) -> Any:
    """An Optuna sampler by its name, `random` or `tpe`."""
    if by == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)


def drawn(space: Space, seed: int) -> dict[str, Any]:
    """A point of a space, drawn at random and kept nowhere: to try the space before a search."""
    optuna = imported()
    study = optuna.create_study(direction="maximize", sampler=sampler(optuna, "random", seed))
    return space.suggest(study.ask())
