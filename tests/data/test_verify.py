"""`verify` tells what has changed, and `prepare` leaves out what a list names."""

import shutil

import pytest
from command import call, document
from making import write_clip
from making_images import write_images

import muybridge
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.runtime.files import sha256_file


@pytest.fixture
def made(tmp_path):
    for number in range(4):
        write_clip(tmp_path / "v" / "ab"[number % 2] / f"{number}.avi", number, 8)
    return muybridge.prepare(tmp_path / "v", out=tmp_path / "set.csv", all_as="train", jobs=1).manifest


def test_sound_files_are_sound_and_the_hash_is_the_manifests(made):
    answer = document(call("verify", made, "--json"))
    assert answer["faults"] == []
    assert answer["files"] == 4
    assert answer["sha256"] == Manifest.load(made).sha256()


def test_changed_and_missing_files_are_told(made, tmp_path):
    (tmp_path / "v" / "a" / "0.avi").unlink()
    shutil.copy(tmp_path / "v" / "b" / "3.avi", tmp_path / "v" / "b" / "1.avi")
    verified = muybridge.verify(made, jobs=2)
    assert {fault["path"]: fault["reason"].split(" (")[0] for fault in verified.faults} == {
        "a/0.avi": "no such file", "b/1.avi": "has changed since it was prepared",
    }  # fmt: skip
    assert call("verify", made).exit_code == 1
    assert call("verify", tmp_path / "none.csv").exit_code == 2


def test_a_pack_is_verified_by_its_own_hashes(made, tmp_path):
    muybridge.pack(made, out=tmp_path / "pack", jobs=1)
    assert muybridge.verify(tmp_path / "pack").is_sound
    file = next((tmp_path / "pack").glob("frames-*"))
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(bytes(data))
    assert [fault["path"] for fault in muybridge.verify(tmp_path / "pack").faults] == [file.name]


def test_a_report_shows_the_hash_that_verify_prints(run, made_set, tmp_path):
    written = muybridge.report(run, out=tmp_path / "report.html", with_frames=False)
    assert muybridge.verify(made_set).sha256 in written.path.read_text()


@pytest.mark.parametrize("text", ["a/0.avi\n\nb/1.avi\n", "id,why\na/0.avi,x\nb/1.avi,y\n", "Path\nb/1.avi\na/0.avi\n"])
def test_a_list_leaves_videos_out(made, tmp_path, text):
    list_file = tmp_path / "out.csv"
    list_file.write_text(text)
    told = call("prepare", tmp_path / "v", "--out", tmp_path / "less.csv", "--all", "train", "--exclude", list_file)
    assert told.exit_code == 0, told.stderr
    assert "2 excluded" in told.stdout
    assert sorted(Manifest.load(tmp_path / "less.csv").text("id").tolist()) == ["a/2.avi", "b/3.avi"]


def test_an_entry_that_names_nothing_is_an_error_that_names_the_nearest(made, tmp_path):
    list_file = tmp_path / "out.txt"
    list_file.write_text("a/0.avi\na/22.avi\n")
    with pytest.raises(UserError, match=r"'a/22.avi' is not a video of the set. Did you mean 'a/2.avi'"):
        muybridge.prepare(tmp_path / "v", out=tmp_path / "less.csv", exclude=list_file, all_as="train")
    list_file.write_text("a/0.avi\na/2.avi\nb/1.avi\nb/3.avi\n")
    with pytest.raises(UserError, match="all 4 videos are excluded"):
        muybridge.prepare(tmp_path / "v", out=tmp_path / "less.csv", exclude=list_file, all_as="train")
    before = sha256_file(list_file)
    with pytest.raises(UserError, match="it would overwrite"):
        muybridge.prepare(
            tmp_path / "v", out=list_file.rename(tmp_path / "l.csv"), exclude=tmp_path / "l.csv", all_as="train"
        )
    assert sha256_file(tmp_path / "l.csv") == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a/0.avi\n" + "x" * 140_000, "an entry of 140,000 characters"),
        ("x" * 140_000, "it cannot be read"),
        ("id,why\na/0.avi," + "x" * 140_000, "it cannot be read"),
        ('id\n"a/0\n.avi"\n', r"'a/0\\n.avi' is not a video"),
    ],
)
def test_a_list_with_an_entry_that_is_no_path_is_told_in_one_line(made, tmp_path, text, said):
    (tmp_path / "out.txt").write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        muybridge.prepare(
            tmp_path / "v", out=tmp_path / "less.csv", exclude=tmp_path / "out.txt", all_as="train", jobs=1
        )
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_lines_without_columns_are_no_csv(made, tmp_path):
    """A quotation mark at the start of a plain list would swallow the lines below it."""
    (tmp_path / "v" / "a").rename(tmp_path / "v" / '"a')
    (tmp_path / "out.txt").write_text('"a/0.avi\n' + "\n" * 140_000 + "b/1.avi\n")
    prepared = muybridge.prepare(
        tmp_path / "v", out=tmp_path / "less.csv", exclude=tmp_path / "out.txt", all_as="train", jobs=1
    )
    assert (prepared.videos, prepared.excluded) == (2, 2)


def test_a_folder_that_lost_its_images_is_told_with_a_remedy(tmp_path):
    for number in range(2):
        write_images(tmp_path / "v" / "ab"[number] / f"{number}", number, 8)
    made = muybridge.prepare(tmp_path / "v", out=tmp_path / "set.csv", all_as="train", jobs=1).manifest
    for image in (tmp_path / "v" / "a" / "0").iterdir():
        image.unlink()
    [fault] = muybridge.verify(made, jobs=1).faults
    assert fault["path"] == "a/0"
    assert fault["reason"].endswith("Restore them, or leave it out")


def test_an_id_leaves_out_one_part_and_a_path_all_parts_of_a_file(made, tmp_path):
    rows = ["v/a/0.avi,a,0,0.16", "v/a/0.avi,a,0.16,0.32", "v/b/1.avi,b,,", "v/a/2.avi,a,,"]
    (tmp_path / "parts.csv").write_text("path,label,start,end\n" + "\n".join(rows) + "\n")
    for entry, left in (("v/a/0.avi#0-0.16", 3), ("v/a/0.avi", 2)):
        (tmp_path / "out.txt").write_text(entry)
        prepared = muybridge.prepare(
            csv=tmp_path / "parts.csv", out=tmp_path / "p.csv", exclude=tmp_path / "out.txt", all_as="train"
        )
        assert (prepared.videos, prepared.excluded) == (left, 4 - left)
