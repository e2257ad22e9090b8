"""The frames of a video: the usual input."""

from muybridge.data.inputs.base import Input


class Frames(Input):
    """Frames, as they are."""

    name = "rgb"
    about = "frames"
    meaning = "the frames of the video"


INPUT = Frames()
