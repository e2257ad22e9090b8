"""What must be equal to the bit when two runs are the same: weights, optimiser, metrics, scores."""


def everything(run):
    files = [run.metrics_file, *run.path.glob("scores/*.npz")]
    for which in ("last", "best"):
        folder = run.checkpoints / (run.checkpoints / which).read_text()
        files += [folder / "model.safetensors", folder / "optimizer.safetensors"]
    return {str(file.relative_to(run.path)): file.read_bytes() for file in files}
