"""Predictions that other tools made, read from their files: one file a format."""

from muybridge.storage.predictions.contents import Predictions as Predictions
