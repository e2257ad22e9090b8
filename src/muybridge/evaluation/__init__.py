"""Scoring, diagnosis and saliency of a trained run."""
