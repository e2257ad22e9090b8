"""Data sets that muybridge generates."""
