"""Cards: what was changed is found, what was only moved is not, and nobody signs for another."""

import hashlib
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import call, document
from made_runs import make_run

import muybridge
from muybridge.errors import UserError
from muybridge.storage.scores import Scores


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two models of two seeds each; two of the four runs are equally good."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        make_run(folder / f"{model}-{seed}", model=model, seed=seed, accuracy=accuracy, groups=6)
        for model, accuracy in (("tsn_resnet18", 0.7), ("tam_resnet18", 0.9))
        for seed in range(2)
    ]


@pytest.fixture
def card(runs, tmp_path):
    path = tmp_path / "card.json"
    return muybridge.report(runs, out=tmp_path / "r.html", card=path, with_frames=False).card


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two pairs of keys as files, one as PEM and one as OpenSSH writes them."""
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder = tmp_path_factory.mktemp("keys")
    for name, private, public in (
        ("ours", (s.Encoding.PEM, s.PrivateFormat.PKCS8), (s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)),
        ("other", (s.Encoding.PEM, s.PrivateFormat.OpenSSH), (s.Encoding.OpenSSH, s.PublicFormat.OpenSSH)),
    ):
        key = Ed25519PrivateKey.generate()
        (folder / f"{name}.key").write_bytes(key.private_bytes(*private, s.NoEncryption()))
        (folder / f"{name}.pub").write_bytes(key.public_key().public_bytes(*public))
    return folder


def changed(path, change, *, sealed=False):
    """The card with one thing changed; `sealed`: with the hash of what it says now."""
    content = json.loads(path.read_text())
    change(content)
    if sealed:
        rest = {name: value for name, value in content.items() if name not in ("sha256", "signature")}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
        content["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(content))


def moved(run, folder, name, order=None):
    """A copy of a run under another name, the rows of its scores in another order."""
    shutil.copytree(run.path, folder / name)
    if order is not None:
        file = folder / name / "scores" / "test.npz"
        s = Scores.load(file)
        place = {int(video): number for number, video in enumerate(order)}
        views = np.random.default_rng(1).permutation(len(s.video_V))
        Scores(
            classes=s.classes, ids_N=s.ids_N[order], labels_N=s.labels_N[order], groups_N=s.groups_N[order],
            video_V=np.array([place[int(video)] for video in s.video_V[views]]), clip_start_V=s.clip_start_V[views],
            crop_V=s.crop_V[views], logits_VK=s.logits_VK[views], average=s.average,
        ).save(file)  # fmt: skip
        assert file.read_bytes() != run.scores_file("test").read_bytes()
    return folder / name


def test_a_card_holds_the_figures_of_the_report(card, runs, tmp_path):
    content, told = json.loads(card.read_text()), json.loads((tmp_path / "r.json").read_text())
    [of_set] = content["sets"]
    assert of_set["manifests"] == ["a" * 64]
    assert of_set["test_videos"] == 60
    for model, other in zip(of_set["models"], told["models"], strict=True):
        assert (model["name"], model["accuracy"], model["low"], model["high"]) == tuple(
            other[name] for name in ("model", "video_top1", "low", "high")
        )
    assert of_set["pairs"] == [
        {name: value for name, value in pair.items() if name != "about"} for pair in told["verdicts"]
    ]
    recipes = {run["recipe"] for model in of_set["models"] for run in model["runs"]}
    assert len(recipes) == 4


def test_the_hash_is_that_of_the_canonical_json(card):
    content = json.loads(card.read_text())
    stated = content.pop("sha256")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode("ascii")).hexdigest() == stated


def test_the_same_scores_give_the_same_figures(card, runs, tmp_path):
    assert muybridge.verify(card, runs).is_sound
    checked = muybridge.verify(card, list(reversed(runs)))
    assert checked.is_sound
    assert len(checked.figures) > 20
    assert muybridge.verify(card).is_sound
    assert "not derived again" in str(muybridge.verify(card))
    told = call("verify", card, *[run.path for run in runs])
    assert told.exit_code == 0
    assert "agree:" in told.stdout


def test_runs_that_were_moved_and_files_in_another_order_pass(card, runs, tmp_path):
    orders = [np.random.default_rng(seed).permutation(60) for seed in range(4)]
    others = [moved(run, tmp_path, f"run{n}", orders[n]) for n, run in enumerate(runs)]
    assert muybridge.verify(card, others).is_sound


def test_a_changed_digit_is_found(card, runs):
    def last_digit(content):
        model = content["sets"][0]["models"][0]
        model["accuracy"] = round(model["accuracy"] + 1e-6, 9)

    changed(card, last_digit)
    assert not muybridge.verify(card).is_whole
    told = call("verify", card)
    assert told.exit_code == 2
    assert "its hash does not fit" in told.stdout
    changed(card, lambda content: None, sealed=True)  # the forger computes the hash, too
    assert muybridge.verify(card).is_sound
    checked = muybridge.verify(card, runs)
    assert [one.name for one in checked.differing] == ["set: tam_resnet18: accuracy"]
    assert call("verify", card, *[run.path for run in runs]).exit_code == 2


@pytest.mark.parametrize("digits", ["p", "high", "difference"])
def test_a_changed_verdict_is_found(card, runs, digits):
    def change(content):
        pair = content["sets"][0]["pairs"][0]
        pair[digits] = round(pair[digits] / 2, 6)
        pair["apart"] = not pair["apart"]

    changed(card, change, sealed=True)
    differing = {one.name.rsplit(": ", 1)[1] for one in muybridge.verify(card, runs).differing}
    assert differing == {"apart", digits}


def hashed(content):
    """A card with the hash of what it says now."""
    plain = {name: value for name, value in content.items() if name not in ("sha256", "signature")}
    whole = json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
    return {**content, "sha256": hashlib.sha256(whole).hexdigest()}


@pytest.mark.parametrize("what", ["sets", "models", "pairs"])
def test_nothing_is_stated_twice(card, runs, what):
    content = json.loads(card.read_text())
    listed = content["sets"] if what == "sets" else content["sets"][0][what]
    false = json.loads(json.dumps(listed[0]))
    if what == "models":
        false["accuracy"] = 0.999
    listed.insert(0, false)
    card.write_text(json.dumps(hashed(content)))
    with pytest.raises(UserError, match="is there twice"):
        muybridge.verify(card, runs)


def test_a_sentence_of_another_version_is_said_to_be_unchecked(card, runs):
    content = json.loads(card.read_text())
    content["muybridge"], content["sets"][0]["verdict"] = "9.9.9", "X beats everyone"
    card.write_text(json.dumps(hashed(content)))
    assert "worded by muybridge 9.9.9, was not derived" in str(muybridge.verify(card, runs))


@pytest.mark.parametrize(
    ("key", "signature"),
    [("01" + "00" * 31, "01" + "00" * 63), ("00" * 32, "00" * 64), ("ed" + "ff" * 30 + "7f", "01" + "00" * 63)],
)
def test_a_key_by_which_anybody_signs_is_none(card, runs, key, signature):
    content = json.loads(card.read_text())
    content["signature"] = {"algorithm": "ed25519", "public_key": key, "signature": signature}
    card.write_text(json.dumps(content))
    checked = muybridge.verify(card, runs)
    assert not checked.is_sound
    assert not checked.is_signed


def test_a_card_has_no_name_of_the_reports(runs, tmp_path):
    with pytest.raises(UserError, match="the report writes a file of that name"):
        muybridge.report(runs, out=tmp_path / "r.html", card=tmp_path / "r.json")
    assert not list(tmp_path.iterdir())


def test_a_swapped_run_is_found(card, runs, tmp_path):
    better = make_run(tmp_path / "better", model="tam_resnet18", seed=1, accuracy=0.95, groups=6)
    differing = {one.name for one in muybridge.verify(card, [*runs[:3], better]).differing}
    assert {
        "set: tam_resnet18: accuracy",
        "set: tam_resnet18: answers",
        "set: tam_resnet18: scores of seed 1",
    } <= differing
    assert "set: tam_resnet18: scores of seed 0" not in differing
    assert not any(name.startswith("set: tsn_resnet18: ") and "minus" not in name for name in differing)
    retrained = make_run(
        tmp_path / "retrained", model="tam_resnet18", seed=1, accuracy=0.9, groups=6, changes={"optim.lr": 0.5}
    )
    assert not muybridge.verify(card, [*runs[:3], retrained]).is_sound


def test_scores_that_change_no_answer_are_found_by_their_hash(card, runs, tmp_path):
    copy = moved(runs[0], tmp_path, "copy")
    s = Scores.load(copy / "scores" / "test.npz")
    s.logits_VK[0] *= np.float32(1.0001)
    s.save(copy / "scores" / "test.npz")
    assert [one.name for one in muybridge.verify(card, [copy, *runs[1:]]).differing] == [
        "set: tsn_resnet18: scores of seed 0"
    ]


def test_runs_too_few_or_too_many_are_told(card, runs, tmp_path):
    more = make_run(tmp_path / "more", model="i3d_resnet18", accuracy=0.5, groups=6)
    found = {one.name: one for one in muybridge.verify(card, [*runs, more]).differing}
    assert found["set: i3d_resnet18: accuracy"].said is None
    assert found["set: i3d_resnet18: accuracy"].found == 0.5
    fewer = {one.name: one for one in muybridge.verify(card, runs[:2]).differing}
    assert fewer["set: tam_resnet18: accuracy"].found is None


def test_a_signature_is_checked_against_the_key(runs, keys, tmp_path):
    card = tmp_path / "card.json"
    out = ["--out", tmp_path / "r.html", "--no-frames"]
    told = document(
        call("report", *[run.path for run in runs], *out, "--card", card, "--key", keys / "ours.key", "--json")
    )
    assert told["card"] == str(card)
    for key in ("ours.pub", "ours.key"):
        checked = muybridge.verify(card, key=keys / key)
        assert checked.is_sound
        assert checked.is_signed
    other = call("verify", card, "--key", keys / "other.pub")
    assert other.exit_code == 2
    assert "signed by another key" in other.stdout

    def claim(content):
        content["sets"][0]["models"][0]["accuracy"] = 1.0

    kept = card.read_text()
    changed(card, claim, sealed=True)
    forged = muybridge.verify(card)
    assert forged.is_whole
    assert not forged.is_signed
    assert not forged.is_sound
    assert "forged" in str(forged)
    card.write_text(kept)

    def of_another(content):  # the other's name under our signature
        from cryptography.hazmat.primitives.serialization import load_ssh_public_key

        other_key = load_ssh_public_key((keys / "other.pub").read_bytes())
        content["signature"]["public_key"] = other_key.public_bytes_raw().hex()

    changed(card, of_another)
    assert "forged" in muybridge.verify(card, key=keys / "other.pub").reason
    card.write_text(kept)
    changed(card, lambda content: content.pop("signature"))
    assert muybridge.verify(card).is_sound
    assert "not signed" in muybridge.verify(card, key=keys / "ours.pub").reason


def test_a_key_of_openssh_signs(runs, keys, tmp_path):
    card = tmp_path / "card.json"
    muybridge.report(runs, out=tmp_path / "r.html", card=card, key=keys / "other.key", with_frames=False)
    assert muybridge.verify(card, runs, key=keys / "other.pub").is_signed


def test_what_is_no_key_is_told_before_anything_is_written(runs, keys, tmp_path):
    (tmp_path / "noise").write_bytes(random.Random(0).randbytes(300))
    asked = {"out": tmp_path / "r.html", "card": tmp_path / "c.json", "with_frames": False}
    for key, why in (
        (tmp_path / "noise", "not a private Ed25519 key"),
        (keys / "ours.pub", "not a private Ed25519 key"),
        (tmp_path / "nowhere", "cannot be read"),
    ):
        with pytest.raises(UserError, match=why):
            muybridge.report(runs, **asked, key=key)
    assert [path.name for path in tmp_path.iterdir()] == ["noise"]


def test_without_the_package_signatures_say_what_to_install(card, runs, tmp_path, monkeypatch):
    signature = {"algorithm": "ed25519", "public_key": "0" * 64, "signature": "0" * 128}
    signed = tmp_path / "signed.json"
    signed.write_text(json.dumps(json.loads(card.read_text()) | {"signature": signature}))
    monkeypatch.setitem(__import__("sys").modules, "cryptography.exceptions", None)
    with pytest.raises(UserError, match=r"pip install 'muybridge\[sign\]'"):
        muybridge.verify(signed)
    with pytest.raises(UserError, match=r"pip install 'muybridge\[sign\]'"):
        muybridge.report(runs, out=tmp_path / "x.html", card=tmp_path / "c.json", key="k.pem")
    assert muybridge.verify(card, runs).is_sound


@pytest.fixture
def files(runs, tmp_path):
    """Answers of the runs as another tool might write them, and a truth."""
    told, truth = [], ["video,label,group"]
    for run in runs:
        scores, name = run.scores("test"), run.recipe().model.name
        path = tmp_path / f"{name}_seed{run.recipe().seed}.csv"
        rows = zip(scores.ids_N.tolist(), scores.video_probabilities().tolist(), strict=True)
        head = ",".join(["video", *(f"score_{one}" for one in scores.classes)])
        path.write_text("\n".join([head, *(",".join([video, *map(repr, of)]) for video, of in rows)]))
        told.append(f"{name}={path}")
    labels = zip(scores.ids_N.tolist(), scores.labels_N.tolist(), scores.groups_N.tolist(), strict=True)
    truth += [f"{video},{scores.classes[label]},{group}" for video, label, group in labels]
    (tmp_path / "truth.csv").write_text("\n".join(truth))
    return told, tmp_path / "truth.csv"


def test_a_card_of_judged_files_is_derived_from_the_files(files, runs, tmp_path):
    told, truth = files
    card = tmp_path / "judged.json"
    muybridge.judge(told, truth=truth, out=tmp_path / "j.html", card=card, with_frames=False)
    assert document(call("verify", card, *told, "--truth", truth, "--json"))["is_sound"]
    of_runs = muybridge.report(runs, out=tmp_path / "r.html", card=tmp_path / "runs.json", with_frames=False).card
    [mine], [theirs] = (json.loads(path.read_text())["sets"] for path in (of_runs, card))
    figures = [
        [(one["name"], one["accuracy"], one["low"], one["high"]) for one in of["models"]] for of in (mine, theirs)
    ]
    assert figures[0] == figures[1]
    changed = Path(told[0].partition("=")[2])
    head, line, *lines = changed.read_text().split("\n")
    video, first, *others = line.split(",")
    changed.write_text("\n".join([head, ",".join([video, repr(float(first) * (1 - 1e-9)), *others]), *lines]))
    found = call("verify", card, *told, "--truth", truth, "--json")
    assert found.exit_code == 2
    differing = [one["name"] for one in json.loads(found.stdout)["figures"] if not one["agrees"]]
    assert [name.split(": ")[-1] for name in differing] == ["scores of file 1"]
    with pytest.raises(UserError, match="Name the files"):
        muybridge.verify(card, truth=truth)
    with pytest.raises(UserError, match="takes neither"):
        muybridge.verify(of_runs, runs, truth=truth)


def test_a_card_is_never_overwritten(card, runs, tmp_path):
    kept = card.read_bytes()
    (tmp_path / "r.html").unlink()
    with pytest.raises(UserError, match="it is there already"):
        muybridge.report(runs, out=tmp_path / "r.html", card=card)
    assert card.read_bytes() == kept
    assert not (tmp_path / "r.html").exists()


def test_other_json_is_no_card(card, tmp_path):
    for text, why in (
        ("{}", "not a card"), ('{"kind": "muybridge card"}', "format_version"),
        ('{"kind": "muybridge card", "format_version": 1}', "damaged"), ("{" * 100_000, "not valid JSON"),
    ):  # fmt: skip
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UserError, match=why):
            muybridge.verify(tmp_path / "x.json")
    with pytest.raises(UserError, match="is of a card"):
        muybridge.verify(tmp_path / "r.md", tmp_path)
    with pytest.raises(UserError, match="--jobs"):
        muybridge.verify(card, jobs=2)


def test_a_damaged_card_is_an_error_or_does_not_pass(card, runs):
    """200 changes of the text: none passes, and none ends in another exception."""
    text, draw = card.read_text(), random.Random(0)
    values = ["null", "1e400", "NaN", "[]", "{}", '"x"', "-1", "true", "10" * 300]
    for _ in range(200):
        at = draw.randrange(1, len(text))
        kind = draw.randrange(3)
        cut = text[:at] + (
            chr(draw.randrange(32, 127)) + text[at + 1 :] if kind == 0
            else text[at + draw.randrange(1, 40) :] if kind == 1
            else draw.choice(values) + text[at:]
        )  # fmt: skip
        card.write_text(cut)
        try:
            same = json.loads(cut) == json.loads(text)
        except ValueError:
            same = False
        try:
            assert muybridge.verify(card).is_sound is same
        except UserError:
            assert not same
