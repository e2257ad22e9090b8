"""Networks step by step: what a stream of frames is answered, and what its state holds."""

import threading

import pytest
import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo import VideoModel, create
from muybridge.zoo.candidates import Candidates
from muybridge.zoo.steps import SEEN, WINDOW, steps, write_state

T, SIZE, CLASSES = 7, 32, 5
PAST = {"direction": "past"}
LOOK_BACK = [
    ("tsm_resnet_tiny", PAST), ("tsm_mobilenet_v2", PAST),
    ("lstm_resnet_tiny", {"width": 6}), ("lstm_resnet_tiny", {"width": 6, "num_layers": 2, "late": 1.5, "hidden": 3}),
    ("gru_resnet_tiny", {"width": 6, "batch_norm": True}), ("gru_resnet_tiny", {"width": 6, "last": True}),
    ("tcn_resnet_tiny", {"width": 6, "causal": True}), ("tcn_resnet_tiny", {"width": 6, "causal": True, "taps": 2}),
    ("tcn_resnet_tiny", {"width": 6, "causal": True, "taps": 1}), ("lstm", {"width": 6}),
]  # fmt: skip
SINGLE_FRAMES = [
    ("tsn_resnet_tiny", {}), ("tsn_resnet_tiny", {"width": 6}), ("tsn_vgg16", {}), ("vgg9", {"fusion": "mean", "size": SIZE}),
    ("lstm_resnet_tiny", {"width": 6, "bidirectional": True}), ("tcn_resnet_tiny", {"width": 6}),
    ("attentive_resnet_tiny", {}), ("transformer_resnet_tiny", {"width": 8}), ("late_fusion_resnet_tiny", {"width": 6}),
    ("slow_fusion_resnet_tiny", {"width": 6}), ("max_pool_resnet_tiny", {}), ("mean_pool_resnet_tiny", {}),
]  # fmt: skip
WHOLE_CLIPS = [
    ("tsm_resnet_tiny", {}), ("tam_resnet_tiny", {}), ("nln_resnet_tiny", {}), ("i3d_resnet_tiny", {}), ("x3d_s", {}),
    ("s3d_resnet_tiny", {}), ("vgg9", {"fusion": "linear", "size": SIZE}),
]  # fmt: skip


def network(name, options, *, num_frames=T):
    """A network whose logits are of a size at which an error of 1e-5 shows."""
    torch.manual_seed(0)
    model = create(name, num_classes=CLASSES, num_frames=num_frames, **options).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
        model.fc.weight.normal_(std=0.1)
    return model


def frames(model, count, seed=1):
    shape = (1, model.in_channels, SIZE, SIZE) if model.input_kind == "clip" else (1, model.in_channels)
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def clip(model, given):
    with torch.no_grad():
        return model(torch.stack(given, dim=2 if model.input_kind == "clip" else 1))


def answers(stepped, given, state=None):
    state, found = state or stepped.start(), []
    for x in given:
        logits, state = stepped.step(x, state)
        found.append(logits)
    return found, state


def assert_close(one, other):
    assert other.abs().max() > 0.03
    assert torch.allclose(one, other, rtol=0, atol=1e-5), (one - other).abs().max()


@pytest.mark.parametrize(("name", "options"), [*LOOK_BACK, *SINGLE_FRAMES], ids=str)
def test_each_answer_is_that_of_the_clip_so_far(name, options):
    model = network(name, options)
    given = frames(model, T)
    found, _ = answers(steps(model, T), given)
    for count in range(model.min_frames, T + 1):
        assert_close(found[count - 1], clip(model, given[:count]))


@pytest.mark.parametrize("name", ["linear_resnet_tiny", "early_fusion_resnet_tiny"])
def test_a_head_for_one_length_answers_as_its_clip_does(name):
    model = network(name, {})
    given = frames(model, T)
    assert_close(answers(steps(model, T), given)[0][-1], clip(model, given))
    with pytest.raises(UserError, match="it takes clips of 7 frames, but got 5"):
        steps(model, 5)


@pytest.mark.parametrize(("name", "options"), SINGLE_FRAMES, ids=str)
def test_what_sees_single_frames_answers_by_a_sliding_window(name, options):
    model = network(name, options)
    given = frames(model, T)
    assert_close(answers(steps(model, 3), given)[0][-1], clip(model, given[-3:]))


@pytest.mark.parametrize(("name", "options"), LOOK_BACK, ids=str)
def test_what_looks_back_remembers_more_than_its_window(name, options):
    """The answer is the mean over the last frames of what each has in the clip from the stream's start."""
    model = network(name, options)
    given = frames(model, T)
    found = answers(steps(model, 2), given)[0][-1]
    alone = answers(steps(model, 1), given)[0]
    weights = torch.ones(2)
    if options.get("late"):
        weights = torch.tensor([0.5, 1.0]) ** options["late"]
    if options.get("last"):
        weights = torch.tensor([0.0, 1.0])
    assert_close(found, (weights[0] * alone[-2] + weights[1] * alone[-1]) / weights.sum())
    if options.get("taps") != 1:
        assert not torch.allclose(found, answers(steps(model, 2), given[-2:])[0][-1], atol=1e-4)


@pytest.mark.parametrize(("name", "options"), WHOLE_CLIPS, ids=str)
def test_what_looks_ahead_takes_whole_clips_only(name, options):
    frames_needed = 16 if name == "vgg9" else 8
    assert steps(create(name, num_classes=2, num_frames=frames_needed, **options), 8) is None


@pytest.mark.parametrize(("name", "options"), [("tsm_resnet_tiny", PAST), ("tcn_resnet_tiny", {"causal": True})])
def test_streams_that_alternate_do_not_disturb_each_other(name, options):
    model = network(name, options)
    stepped = steps(model, 3)
    videos = [frames(model, T, seed=seed) for seed in (1, 2)]
    alone = [answers(stepped, video)[0] for video in videos]
    states = [stepped.start(), stepped.start()]
    for at in range(T):
        for which in (0, 1):
            logits, states[which] = stepped.step(videos[which][at], states[which])
            assert torch.equal(logits, alone[which][at])


def test_a_step_leaves_the_state_that_it_was_given_as_it_is():
    model = network("tsm_resnet_tiny", PAST)
    stepped = steps(model, 3)
    _, state = answers(stepped, frames(model, 4))
    before = {name: tensor.clone() for name, tensor in state.items()}
    one, _ = stepped.step(frames(model, 1)[0], state)
    assert all(torch.equal(state[name], before[name]) for name in before)
    assert torch.equal(stepped.step(frames(model, 1)[0], state)[0], one)


def test_threads_have_streams_of_their_own():
    model = network("tsm_resnet_tiny", PAST)
    stepped = steps(model, 3)
    videos = [frames(model, 12, seed=seed) for seed in range(4)]
    alone = [answers(stepped, video)[0] for video in videos]
    together: list = [None] * 4
    barrier = threading.Barrier(5)

    def stream(which):
        barrier.wait()
        together[which] = answers(stepped, videos[which])[0]

    def clips():  # beside them, somebody asks the same network about whole clips
        barrier.wait()
        of_clips.extend(clip(model, videos[0]) for _ in range(5))

    whole, of_clips = clip(model, videos[0]), []
    threads = [*(threading.Thread(target=stream, args=(which,)) for which in range(4)), threading.Thread(target=clips)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [torch.equal(found, whole) for found in of_clips] == [True] * 5
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_clips_after_a_stream_begin_with_zeros_again():
    model = network("tsm_resnet_tiny", PAST)
    given = frames(model, T)
    before = clip(model, given)
    stepped = steps(model, 3)
    state = stepped.step(given[0], stepped.start())[1]
    with pytest.raises(UserError):  # an error in the middle of a step
        stepped.step(given[0][:, :, :16], state)
    assert torch.equal(clip(model, given), before)


def test_a_state_is_small_and_does_not_grow():
    model = network("tsm_resnet_tiny", PAST)
    stepped = steps(model, 3)
    _, early = answers(stepped, frames(model, 2))
    _, late = answers(stepped, frames(model, 40))
    shapes = {name: tensor.shape for name, tensor in late.items()}
    assert {name: tensor.shape for name, tensor in early.items()} == shapes
    assert {name: tensor.shape for name, tensor in stepped.start(frames(model, 1)[0]).items()} == shapes
    for tensor in late.values():  # and holds no other tensor alive
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    assert late[SEEN].item() == 3


def test_a_state_of_zeros_is_the_start():
    model = network("tsm_resnet_tiny", PAST)
    stepped, given = steps(model, 3), frames(model, 4)
    assert torch.equal(answers(stepped, given, stepped.start(given[0]))[0][-1], answers(stepped, given)[0][-1])


@pytest.mark.parametrize(
    ("name", "options"), [("tsm_resnet_tiny", PAST), ("lstm_resnet_tiny", {}), ("tsn_resnet_tiny", {})]
)
def test_a_saved_state_goes_on_to_the_bit(name, options, tmp_path):
    model = network(name, options)
    given = frames(model, T)
    whole, _ = answers(steps(model, 3), given)
    _, state = answers(steps(model, 3), given[:4])
    steps(model, 3).save_state(tmp_path / "state", state)
    again = steps(network(name, options), 3)
    found, _ = answers(again, given[4:], again.load_state(tmp_path / "state"))
    assert all(torch.equal(a, b) for a, b in zip(found, whole[4:], strict=True))


def test_a_state_of_another_network_is_refused(tmp_path):
    model = network("tsm_resnet_tiny", PAST)
    stepped, path = steps(model, 3), tmp_path / "state"
    stepped.save_state(path, answers(stepped, frames(model, 2))[1])
    with torch.no_grad():
        model.fc.bias[0] += 1e-6
    with pytest.raises(UserError, match="other weights"):
        steps(model, 3).load_state(path)
    with torch.no_grad():
        model.fc.bias[0] = 0
    steps(model, 3).load_state(path)
    with pytest.raises(UserError, match="a window of 4 frames"):
        steps(model, 4).load_state(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="cannot be read"):
        steps(model, 3).load_state(path)
    with pytest.raises(UserError, match="is not one of"):
        stepped.save_state(path, {WINDOW: torch.zeros(1, 3, CLASSES)})
    other = steps(network("lstm_resnet_tiny", {}), 3)
    with pytest.raises(UserError, match="is not one of"):
        stepped.step(frames(model, 1)[0], answers(other, frames(model, 1))[1])


@pytest.mark.parametrize("name", ["tsm_resnet_tiny", "lstm_resnet_tiny", "tsn_resnet_tiny"])
def test_a_state_that_was_edited_is_refused(name, tmp_path):
    model = network(name, PAST if name.startswith("tsm") else {})
    stepped, path = steps(model, 3), tmp_path / "state"
    frame = frames(model, 1)[0]
    _, state = answers(stepped, frames(model, 2))
    kept = max(state, key=len)  # a module's, where one keeps anything
    edits = {
        "seen none": {SEEN: torch.tensor([0])},
        "seen too many": {SEEN: torch.tensor([4])},
        "seen fewer than none": {SEEN: torch.tensor([-1])},
        "seen as a float": {SEEN: torch.tensor([2.0])},
        "not finite": {kept: torch.full_like(state[kept], torch.nan)},
        "of another type": {kept: state[kept].double()},
        "of another shape": {kept: state[kept][..., :-1].contiguous()},
        "one more": {"fc": torch.zeros(1)},
        "one less": {kept: None},
    }
    for what, edit in edits.items():
        if kept == SEEN and what in ("not finite", "of another type"):
            continue
        edited = {name: tensor for name, tensor in (state | edit).items() if tensor is not None}
        write_state(path, edited, name=model.name, sha256=stepped.digest())
        with pytest.raises(UserError, match=r"with a window of 3 frames"):
            stepped.load_state(path, frame)
    for whole in (state, stepped.start(), stepped.start(frame)):
        stepped.save_state(path, whole)
        stepped.load_state(path)
        assert stepped.load_state(path, frame).keys() == whole.keys()


@pytest.mark.parametrize("place", ["gone/state", "."])
def test_a_state_goes_into_a_folder_that_is_there(place, tmp_path):
    stepped = steps(network("tsn_resnet_tiny", {}), 3)
    with pytest.raises(UserError, match="cannot be written"):
        stepped.save_state(tmp_path / place, stepped.start())
    assert not list(tmp_path.iterdir())


def test_frames_that_do_not_fit_are_errors():
    model = network("tsm_resnet_tiny", PAST)
    stepped = steps(model, 3)
    state = stepped.step(torch.zeros(1, 3, 32, 32), stepped.start())[1]
    with pytest.raises(UserError, match=r"Start a new state where the frames' size changes"):
        stepped.step(torch.zeros(1, 3, 64, 64), state)
    with pytest.raises(UserError, match="takes 3 channels, but got 4"):
        stepped.step(torch.zeros(1, 4, 32, 32), stepped.start())
    with pytest.raises(UserError, match="at least 32x32"):
        stepped.step(torch.zeros(1, 3, 16, 16), stepped.start())
    with pytest.raises(UserError, match="2 frames came at once"):
        stepped.step(torch.zeros(2, 3, 32, 32), stepped.start())
    with pytest.raises(UserError, match="window: it is 0"):
        steps(model, 0)


class Loudest(VideoModel):
    """A network of the user's own: single frames, and the loudest logits of all as the answer."""

    looks_at = "frame"

    def __init__(self):
        super().__init__(6, CLASSES, dropout=0.0)
        self.conv = nn.Conv3d(3, 6, (1, 3, 3))

    def features(self, x_BCTHW):
        return self.conv(x_BCTHW).mean((3, 4)).transpose(1, 2)

    def head(self, f_BTD):
        return self.fc(f_BTD).amax(1)


def test_a_head_of_the_users_own_gets_the_frames_that_are_there():
    torch.manual_seed(0)
    model = Loudest().eval()
    nn.init.normal_(model.fc.weight)
    given = frames(model, T)
    found, _ = answers(steps(model, 3), given)
    assert_close(found[1], clip(model, given[:2]))
    assert_close(found[-1], clip(model, given[-3:]))


def test_of_networks_trained_side_by_side_the_chosen_one_answers():
    copies = Candidates(network("lstm_resnet_tiny", {}), 2, chosen=1).eval()
    nn.init.normal_(copies.copies[1].fc.weight)
    given = frames(copies, T)
    assert_close(answers(steps(copies, T), given)[0][-1], clip(copies, given))


def test_the_answer_of_a_frame_does_not_depend_on_later_ones():
    given = frames(network("tsm_resnet_tiny", {}), T)
    changed = [*given[:4], *frames(network("tsm_resnet_tiny", {}), 3, seed=9)]
    for options, is_causal in ((PAST, True), ({}, False)):
        model = network("tsm_resnet_tiny", options)
        with torch.no_grad():
            one, other = (model.features(torch.stack(each, dim=2))[:, :4] for each in (given, changed))
        assert torch.equal(one, other) == is_causal
