"""Streams for tests: MPEG-TS as bytes, and an HTTP server that sends it as it is told, without a length."""

import io
import socket
import threading
from contextlib import contextmanager, suppress
from fractions import Fraction

import av
import numpy as np

FPS = 24


def transport_stream(frames_THW3, *, fps=FPS, times_seconds=None, first_seconds=0.0):
    """MPEG-TS of frames, a key frame each half second."""
    held = io.BytesIO()
    with av.open(held, "w", format="mpegts") as container:
        video = container.add_stream("mpeg2video", rate=fps)
        video.height, video.width = frames_THW3.shape[1:3]
        video.pix_fmt, video.bit_rate = "yuv420p", 2_000_000
        video.codec_context.gop_size, video.codec_context.max_b_frames = fps // 2, 0
        for number, pixels in enumerate(frames_THW3):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            seconds = first_seconds + (number / fps if times_seconds is None else times_seconds[number])
            frame.pts, frame.time_base = round(seconds * 90_000), Fraction(1, 90_000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return held.getvalue()


@contextmanager
def server(*connections):
    """Serve each connection by one function of `send` (bytes); after the last one nobody is served. Gives the address."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        with suppress(OSError):
            for act in connections:
                peer, _ = listening.accept()
                threading.Thread(target=answer, args=(peer, act), daemon=True).start()
        listening.close()

    def answer(peer, act):
        with peer, suppress(OSError):
            peer.recv(65536)
            peer.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/MP2T\r\n\r\n")
            act(peer.sendall)
            peer.shutdown(socket.SHUT_WR)
            peer.recv(1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/live.ts"
    finally:
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
