"""From a recipe to objects: the only room that does so; parts below it take plain keyword arguments."""

from muybridge.build.balance import NO_BALANCE, Balance, balance, train_rows
from muybridge.build.clips import (
    clip_spec,
    file_reader,
    reader_and_workers,
    scoring_batch_size,
    train_clips,
    video_views,
    with_stored_input,
)
from muybridge.build.networks import averaged, cost, fill, frozen, model, optimizer, outline
from muybridge.build.public import answering, ready_made
from muybridge.build.resolving import placement, resolve, settled_precision, user_network
from muybridge.build.weights import base_run, check_unseen, run_of, seen_before, weights_file

__all__ = [
    "NO_BALANCE",
    "Balance",
    "answering",
    "averaged",
    "balance",
    "base_run",
    "check_unseen",
    "clip_spec",
    "cost",
    "file_reader",
    "fill",
    "frozen",
    "model",
    "optimizer",
    "outline",
    "placement",
    "reader_and_workers",
    "ready_made",
    "resolve",
    "run_of",
    "scoring_batch_size",
    "seen_before",
    "settled_precision",
    "train_clips",
    "train_rows",
    "user_network",
    "video_views",
    "weights_file",
    "with_stored_input",
]
