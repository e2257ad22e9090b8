"""Optical flow: where each pixel of a frame is in a later one, in pixels (x to the right, y down).

OpenCV computes it on a CPU (the extra `flow`): DIS (Kroeger et al. 2016), TV-L1 (Zach et al. 2007), Farnebäck (2003).
torchvision's RAFT (Teed and Deng 2020) does on a GPU (the extra `raft`). Both are imported when they are asked for.

`without_camera` takes out the camera's motion: matches of features, and points of the flow itself, give a homography; the
second frame is warped back by it, and the flow computed anew (Wang and Schmid 2013, section 3.1; warped flow of Wang et al.
2016, section 3.1).
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from muybridge.errors import UserError, nearest

MOST_POINTS, POINT_QUALITY, POINT_DISTANCE = 1000, 0.001, 3
"""Features, and points of the flow, that vote for the camera's motion; the points are Shi and Tomasi's corners, of this
quality, this far apart."""
LEAST_POINTS, LEAST_INLIERS, INLIER_PIXELS = 50, 25, 1.0
"""Points, and inliers within this distance, that must be exceeded; else the camera counts as still."""
RAFT_SIDE, RAFT_MULTIPLE = 128, 8
"""Least side of RAFT's pictures, and what their sides are multiples of."""


class Method(Protocol):
    """One way to compute flow. An object is for one thread."""

    def image(self, frame_HW3: np.ndarray) -> np.ndarray:
        """Form of a frame that it compares."""
        ...

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Flow (H,W,2) float32 from one image to another. Raises ValueError for images that it cannot compare."""
        ...


class _OpenCV:
    """A method that compares gray images. `calc(first, second)` gives the flow."""

    def __init__(self, calc: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        self._calc = calc

    def image(self, frame_HW3: np.ndarray) -> np.ndarray:
        cv2 = opencv()
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame_HW3), cv2.COLOR_RGB2GRAY))

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(self._calc(first, second), dtype=np.float32)
        except opencv().error:
            height, width = first.shape[:2]
            raise ValueError(
                f"OpenCV finds no flow in frames of {width}x{height} by this method. Take the video out of the set, or choose "
                "another --method or --short-side"
            ) from None


def _dis() -> Method:
    cv2 = opencv()
    found = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return _OpenCV(lambda first, second: found.calc(first, second, None))


def _farneback() -> Method:
    cv2 = opencv()
    return _OpenCV(lambda a, b: cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 15, 3, 5, 1.2, 0))


def _tvl1() -> Method:
    cv2 = opencv()
    if not hasattr(cv2, "optflow"):
        raise UserError(
            "--method tvl1: this OpenCV has no TV-L1. Install the one that has: pip uninstall opencv-python "
            "opencv-python-headless, then pip install 'muybridge[flow]'"
        )
    found = cv2.optflow.DualTVL1OpticalFlow_create()
    return _OpenCV(lambda first, second: found.calc(first, second, None))


class _Raft:
    """torchvision's large RAFT with its weights for all data sets (C_T_SKHT_V2); one network for all threads."""

    def __init__(self) -> None:
        try:
            import torch
            from torchvision.models import optical_flow
        except ImportError:
            raise UserError(
                "--method raft: torchvision is not installed. Install it: pip install 'muybridge[raft]'"
            ) from None
        self._torch, self._lock = torch, threading.Lock()
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        weights = optical_flow.Raft_Large_Weights.C_T_SKHT_V2
        self._net = optical_flow.raft_large(weights=weights, progress=False).eval().to(self._device)

    def image(self, frame_HW3: np.ndarray) -> np.ndarray:
        return np.array(frame_HW3)

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        torch = self._torch
        height, width = first.shape[:2]
        rows, columns = (max(RAFT_SIDE, side + -side % RAFT_MULTIPLE) - side for side in (height, width))
        with self._lock, torch.inference_mode():
            pair_2HW3 = torch.from_numpy(np.stack([first, second])).to(self._device)
            pair_23HW = pair_2HW3.permute(0, 3, 1, 2).float() / 127.5 - 1
            pair_23HW = torch.nn.functional.pad(pair_23HW, (0, columns, 0, rows), mode="replicate")
            flow_2HW = self._net(pair_23HW[:1], pair_23HW[1:])[-1][0, :, :height, :width]
            return np.ascontiguousarray(flow_2HW.permute(1, 2, 0).float().cpu().numpy())


def _shared_raft() -> Method:
    with _raft_lock:
        if not _raft:
            _raft.append(_Raft())
        return _raft[0]


_raft: list[Method] = []
_raft_lock = threading.Lock()

METHODS: Mapping[str, Callable[[], Method]] = {
    "dis": _dis, "tvl1": _tvl1, "farneback": _farneback, "raft": _shared_raft,
}  # fmt: skip
"""Functions that make a method, by its name."""


def method(name: str) -> Method:
    """Make a method. Raises UserError for an unknown one, and where its library is not installed."""
    if name not in METHODS:
        raise UserError(f"--method: '{name}' is unknown. {nearest(name, METHODS)}")
    return METHODS[name]()


def library(name: str) -> str:
    """Name and version of the library that computes a method."""
    if name == "raft":
        import torchvision

        return f"torchvision {torchvision.__version__}"
    return f"opencv {opencv().__version__}"


def opencv() -> Any:
    """Import OpenCV, which computes in the caller's thread alone. Raises UserError where it is not installed."""
    try:
        import cv2
    except ImportError:
        raise UserError(
            "OpenCV: it is not installed, and computes flow. Install it: pip install 'muybridge[flow]'"
        ) from None
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
    return cv2


def without_camera(how: Method, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Flow (H,W,2) between two images without that of the camera: from the first to the second, warped back."""
    flow_HW2 = how.between(first, second)
    camera_33 = homography(first, second, flow_HW2)
    if camera_33 is None:
        return flow_HW2
    cv2 = opencv()
    height, width = first.shape[:2]
    warped = cv2.warpPerspective(
        second, camera_33, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return how.between(first, np.asarray(warped))


def homography(first: np.ndarray, second: np.ndarray, flow_HW2: np.ndarray) -> np.ndarray | None:
    """Motion of the camera as a homography (3,3) from places in the first image to those in the second.

    None where too few points agree. Points are matches of SIFT (the authors took SURF, which is not free) and corners with
    the flow at them.
    """
    cv2 = opencv()
    grays = [image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    from_N2, to_N2 = _matches(cv2, *grays)
    corners = cv2.goodFeaturesToTrack(grays[0], MOST_POINTS, POINT_QUALITY, POINT_DISTANCE)
    if corners is not None:
        corners_M2 = np.asarray(corners, dtype=np.float32).reshape(-1, 2)
        columns_M, rows_M = corners_M2.astype(np.int64).T
        from_N2 = np.concatenate([from_N2, corners_M2])
        to_N2 = np.concatenate([to_N2, corners_M2 + flow_HW2[rows_M, columns_M]])
    if len(from_N2) <= LEAST_POINTS:
        return None
    camera_33, inliers = cv2.findHomography(from_N2, to_N2, cv2.RANSAC, INLIER_PIXELS)
    return None if camera_33 is None or int(inliers.sum()) <= LEAST_INLIERS else np.asarray(camera_33)


def _matches(cv2: Any, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (N,2) of features in both images, each the other's nearest."""
    finder = cv2.SIFT_create(nfeatures=MOST_POINTS)
    (points_a, words_a), (points_b, words_b) = (finder.detectAndCompute(image, None) for image in (first, second))
    none = np.zeros((0, 2), dtype=np.float32)
    if words_a is None or words_b is None:
        return none, none
    matches = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(words_a, words_b)
    if not matches:
        return none, none
    return (
        np.array([points_a[match.queryIdx].pt for match in matches], dtype=np.float32),
        np.array([points_b[match.trainIdx].pt for match in matches], dtype=np.float32),
    )
