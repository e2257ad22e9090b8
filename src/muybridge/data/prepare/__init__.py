"""Make a manifest of a folder of videos, lists or arrays."""
