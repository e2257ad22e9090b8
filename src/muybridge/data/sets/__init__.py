"""Data sets that muybridge makes or knows."""
