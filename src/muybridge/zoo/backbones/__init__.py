"""2D image networks that video models grow from; each is written once."""
