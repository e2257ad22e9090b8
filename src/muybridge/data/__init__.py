"""From labelled videos to batches: manifest, preparation, sampling, transforms, loader."""
