"""All that stays on disk of a run or a study."""
