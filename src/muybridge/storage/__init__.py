"""Files of runs and studies on disk."""
