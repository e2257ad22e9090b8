"""Sources of a stream: a camera, an address, a file, or standard input, as FFmpeg opens them."""

import os
import re
import stat
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from muybridge.errors import UserError
from muybridge.video.errors import DecodeError

Kind = Literal["camera", "network", "file", "pipe"]

PIPE = "-"
"""Standard input, as it is named."""
STDIN = "fd:"
"""Standard input, as FFmpeg opens it."""
NETWORK = "http,https,tls,tcp,udp,rtp,srtp,rtsp,rtsps,rtmp,rtmps,srt,crypto,data,httpproxy"
"""FFmpeg's protocols that an address may lead to: a playlist of strangers must not name files of this machine."""
SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "rtp", "tcp", "srt")
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SECRET = re.compile(r"(?<=://)[^/?#\s]*@")
_RAW = re.compile(r"([0-9]{1,5})x([0-9]{1,5})@([0-9]+(?:\.[0-9]+)?(?:/[0-9]+)?)")


@dataclass(frozen=True)
class Source:
    """A source, ready to be opened."""

    name: str
    """Name for messages, without the password of an address."""
    kind: Kind
    opened: str
    """Name by which FFmpeg opens it."""
    format: str | None = None
    """FFmpeg's format; None: found out."""
    options: dict[str, str] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        """Whether it continues while nobody looks, as cameras and addresses do."""
        return self.kind in ("camera", "network")

    def as_json(self) -> dict[str, Any]:
        """For the process that opens it."""
        return asdict(self)


def source_of(text: str | os.PathLike[str], *, raw: str | None = None) -> Source:
    """The source that a text names.

    `camera:0` (or `/dev/video0`, or a camera's name) is a camera, `-` standard input, `rtsp://…` and the like an address,
    all else the path of a file. `raw`: standard input is frames without a container, "640x480@30", three bytes a pixel (red,
    green, blue). Raises UserError, and DecodeError for a path that is not a file.
    """
    text = os.fspath(text)
    if raw is not None:
        if text != PIPE:
            raise UserError(f"--raw: it describes standard input, but the source is {text}. Give - as the source")
        return _raw(raw)
    if text == PIPE:
        if sys.stdin is not None and sys.stdin.isatty():
            raise UserError("-: standard input is the terminal. Give it a video: muybridge stream RUN - < FILE")
        return Source("standard input", "pipe", STDIN, options={"protocol_whitelist": "fd", "fd": "0"})
    if text.startswith("camera:"):
        return _camera(text, text.removeprefix("camera:"))
    if address := _ADDRESS.match(text):
        scheme = address[1].lower()
        if scheme not in SCHEMES:
            raise UserError(f"{masked(text)}: addresses of kind '{scheme}' are not read. Use {', '.join(SCHEMES)}")
        options = {"protocol_whitelist": NETWORK}
        if scheme.startswith("rtsp"):
            options["rtsp_flags"] = "prefer_tcp"  # as UDP loses packets
        return Source(masked(text), "network", text, options=options)
    path = Path(text)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise DecodeError(text, getattr(error, "strerror", None) or str(error)) from None
    if stat.S_ISCHR(mode):
        return _camera(text, text)
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
        raise DecodeError(text, "is neither a file nor a camera")
    kind: Kind = "pipe" if stat.S_ISFIFO(mode) else "file"
    return Source(text, kind, f"file:{text}", options={"protocol_whitelist": "file"})


def masked(text: str) -> str:
    """The text with the names and passwords of its addresses left out."""
    return _SECRET.sub("…@", text)


def _camera(name: str, device: str) -> Source:
    """A camera by its number or its name, as the system's own format has it."""
    if not device:
        raise UserError(f"{name}: it names no camera. Give a number, for example camera:0")
    if sys.platform == "darwin":
        return Source(name, "camera", f"{device}:none", "avfoundation", {"framerate": "30"})
    if sys.platform == "win32":
        if device.isdecimal():
            raise UserError(f"{name}: on Windows cameras have names. Give one, for example camera:Integrated Camera")
        return Source(name, "camera", f"video={device}", "dshow")
    return Source(name, "camera", f"/dev/video{device}" if device.isdecimal() else device, "v4l2")


def _raw(text: str) -> Source:
    size = _RAW.fullmatch(text)
    if size is None or not int(size[1]) or not int(size[2]) or not float(size[3].partition("/")[0]):
        raise UserError(f"--raw {text}: not a size and a rate. Give WIDTHxHEIGHT@FPS, for example 640x480@30")
    options = {
        "protocol_whitelist": "fd", "fd": "0", "video_size": f"{size[1]}x{size[2]}", "framerate": size[3],
        "pixel_format": "rgb24",
    }  # fmt: skip
    return Source("standard input", "pipe", STDIN, "rawvideo", options)
