"""Stacks of warped flow: optical flow without the camera's motion (Wang et al. 2016, TSN, section 3.1)."""

from muybridge.data.inputs.flow import Flow

INPUT = Flow(
    "warped_flow",
    "stacks of warped flow",
    "the same, of a store that `muybridge flow --warped` makes, without the camera's motion",
)
