"""What must be equal to the bit when two runs are the same: weights, optimiser, metrics, scores."""


def everything(run):
    last = run.checkpoints / (run.checkpoints / "last").read_text()
    files = [
        last / "model.safetensors",
        last / "optimizer.safetensors",
        run.metrics_file,
        *run.path.glob("scores/*.npz"),
    ]
    return {file.name: file.read_bytes() for file in files}
