"""From scores on disk to verdicts: no torch, no HTML."""
