"""Standard sets on disk: their lists in the published formats, and videos in the published layouts.

A writer takes the root and `put`, which makes the video of a path (a real one, or an empty file where no test opens it). It
returns the paths it made. Few classes and videos, but every kind of line.
"""

import json

from making import coded, write_clip, write_video
from making_images import write_images

SPLITS_OF_UCF101 = {1: (9_537, 3_783), 2: (9_586, 3_734), 3: (9_624, 3_696)}


def ucf101_names(*, classes=101, videos=13_320, tests=(3_783, 3_734, 3_696)):
    """Names and the official split in whose test each lies (0: none): groups 1-7, 8-14, 15-21, and the rest."""
    names = []
    rest = videos - sum(tests)
    for split, count in (*enumerate(tests, start=1), (0, rest)):
        numbers = range(22, 26) if split == 0 else range(7 * split - 6, 7 * split + 1)
        cells = [(k, number) for k in range(classes) for number in numbers]
        for i, (k, number) in enumerate(cells):
            clips = count // len(cells) + (i < count % len(cells))
            names += [(f"Class{k:03d}/v_Class{k:03d}_g{number:02d}_c{c + 1:02d}.avi", split) for c in range(clips)]
    return names


def write_ucf101_lists(folder, names):
    """classInd.txt, trainlist01.txt … testlist03.txt, with the line ends of the originals."""
    folder.mkdir(parents=True)
    classes = sorted({name.partition("/")[0] for name, _ in names})
    write_lines(folder / "classInd.txt", (f"{n} {name}" for n, name in enumerate(classes, start=1)))
    number = {name: n for n, name in enumerate(classes, start=1)}
    for split in (1, 2, 3):
        train = [f"{name} {number[name.partition('/')[0]]}" for name, tested in names if tested != split]
        write_lines(folder / f"trainlist{split:02d}.txt", train)
        write_lines(folder / f"testlist{split:02d}.txt", [name for name, tested in names if tested == split])


def hmdb51_names(*, classes=51, train=70, test=30, unused=1_666):
    """Names, and their marks in the three splits. A class and a film lie in one part of a split."""
    names = {}
    for k in range(classes):
        label = f"class_{k:02d}"
        extra = unused // classes + (k < unused % classes)
        for i in range(train + test + extra):
            marks = []
            for split in range(3):
                place = (i - split * test) % (train + test + extra)
                marks.append("2" if place < test else "1" if place < test + train else "0")
            names[f"Film_{i}_{label}_f_cm_np1_fr_med_{i % 3}.avi"] = (label, marks)
    return names


def write_hmdb51_lists(folder, names):
    folder.mkdir(parents=True)
    for label in sorted({label for label, _ in names.values()}):
        for split in range(3):
            lines = [f"{name} {marks[split]} " for name, (of, marks) in names.items() if of == label]
            (folder / f"{label}_test_split{split + 1}.txt").write_text("\n".join(lines) + "\n")


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


class Films:
    """`put` that makes real videos, each with other bytes."""

    def __init__(self):
        self.count = 0

    def __call__(self, path):
        self.count += 1
        if not path.suffix:
            write_images(path, self.count, 8, name="{:05d}.jpg")
        elif path.suffix == ".webm":
            write_video(path, [coded(self.count + i) for i in range(8)], codec="libvpx")
        else:
            write_clip(path, self.count, 14 if path.suffix == ".avi" else 8)


# --- a few videos of each set


def ucf11(root, put):
    for label, name in (("basketball", "shooting"), ("golf_swing", "golf"), ("walking", "walk_dog")):
        (root / "UCF11_updated_mpg" / label / "Annotation").mkdir(parents=True)
        for group in range(1, 5):
            for clip in (1, 2):
                stem = f"v_{name}_{group:02d}_{clip:02d}"
                put(root / "UCF11_updated_mpg" / label / f"v_{name}_{group:02d}" / f"{stem}.mpg")
                (root / "UCF11_updated_mpg" / label / "Annotation" / f"{stem}.xgtf").write_text("<viper/>")
        (root / "UCF11_updated_mpg" / label / ".DS_Store").write_bytes(b"\0")
        (root / "UCF11_updated_mpg" / label / "Thumbs.db").write_bytes(b"\0")
    (root / "README").write_text("words")


def ucf50(root, put):
    for label in ("BaseballPitch", "YoYo"):
        for group in range(1, 6):
            put(root / "UCF50" / label / f"v_{label}_g{group:02d}_c01.avi")


def ucf101(root, put):
    names = ucf101_names(classes=2, videos=50, tests=(14, 14, 14))
    write_ucf101_lists(root / "ucfTrainTestlist", names)
    for name, _ in names:
        put(root / "UCF-101" / name)


def hmdb51(root, put):
    names = hmdb51_names(classes=2, train=6, test=3, unused=2)
    write_hmdb51_lists(root / "testTrainMulti_7030_splits", names)
    for name, (label, _) in names.items():
        put(root / "hmdb51_org" / label / name)


def kinetics(root, put):
    """Lists in CSV; clips as the crawlers name them, in class folders with blanks."""
    for split, file, count in (("train", "train.csv", 6), ("val", "val.csv", 2)):
        lines = ["label,youtube_id,time_start,time_end,split,is_cc"]
        for label in ("air drumming", "zumba"):
            for i in range(count):
                id_ = f"-{label[0]}_{split}{i:02d}"
                lines.append(f"{label},{id_},{10 * i},{10 * i + 10},{split},0")
                put(root / split / label / f"{id_}_{10 * i:06d}_{10 * i + 10:06d}.mp4")
        write_lines(root / "annotations" / file, lines)
    write_lines(root / "annotations" / "test.csv", ["youtube_id,time_start,time_end,split", "hidden00000,1,11,test"])


TEMPLATES = (
    "Pulling [something] from left to right",
    "Pulling [something] from right to left",
    "Pretending to put [something] on a surface",
)


def something_something_v2(root, put):
    videos = root / "20bn-something-something-v2"
    write_json(
        root / "something-something-v2-labels.json",
        {text.replace("[", "").replace("]", ""): str(n) for n, text in enumerate(TEMPLATES)},
    )
    number = 0
    for name, count in (("train", 5), ("validation", 2)):
        entries = []
        for template in TEMPLATES:
            for _ in range(count):
                number += 1
                label = template.replace("[something]", "a cup").lower()
                entries.append({"id": str(number), "label": label, "template": template, "placeholders": ["a cup"]})
                put(videos / f"{number}.webm")
        write_json(root / f"something-something-v2-{name}.json", entries)
    write_json(root / "something-something-v2-test.json", [{"id": "99"}])
    put(videos / "99.webm")


def jester(root, put):
    """Folders of frames, which are all that is published."""
    labels = ("Swiping Left", "Swiping Right", "Thumb Up")
    number = 0
    write_lines(root / "jester-v1-labels.csv", labels)
    for name, count in (("train", 5), ("validation", 2)):
        lines = []
        for label in labels:
            for _ in range(count):
                number += 1
                lines.append(f"{number};{label}")
                put(root / "20bn-jester-v1" / str(number))
        write_lines(root / f"jester-v1-{name}.csv", lines)
    write_lines(root / "jester-v1-test.csv", ["77"])


def moments_in_time(root, put):
    folder = root / "Moments_in_Time_Raw"
    write_lines(folder / "moments_categories.txt", ["clapping,1", "adult+female+singing,0"])
    for split, file, count in (("training", "trainingSet.csv", 5), ("validation", "validationSet.csv", 2)):
        lines = []
        for label in ("clapping", "adult+female+singing"):
            for i in range(count):
                name = f"{label}/yt-{split}{label[0]}{i // 2}_{i}.mp4"
                lines.append(f"{name},{label},3,0")
                put(folder / split / name)
        write_lines(folder / file, lines)


def diving48(root, put):
    write_json(
        root / "Diving48_vocab.json", [["Back", "15som", "05Twis", "FREE"], ["Forward", "Dive", "NoTwis", "PIKE"]]
    )
    for split, count in (("train", 6), ("test", 2)):
        entries = []
        for label in (0, 1):
            for i in range(count):
                name = f"-mmq_{split}{label}{i // 2}_{i:05d}"
                entries.append({"vid_name": name, "label": label, "start_frame": 0, "end_frame": 6})
                put(root / "rgb" / f"{name}.mp4")
        write_json(root / f"Diving48_V2_{split}.json", entries)


def kth(root, put):
    """Four sequences a video in the list; here two of 8 frames each, with a pause between."""
    lines = ["The sequences are divided", "with respect to the subjects into:", "", "Training: \tperson11, 12", ""]
    for person in (11, 12, 19, 22, 2):
        for label in ("boxing", "walking"):
            name = f"person{person:02d}_{label}_d1"
            lines.append(f"{name}\t\tframes\t1-6, 9-14")
            put(root / label / f"{name}_uncomp.avi")
    lines.append("person13_handclapping_d3\t*missing*")
    write_lines(root / "00sequences.txt", lines)


WRITERS = {
    "ucf11": ucf11, "ucf50": ucf50, "ucf101": ucf101, "hmdb51": hmdb51, "kinetics400": kinetics, "kinetics600": kinetics,
    "kinetics700": kinetics, "something_something_v2": something_something_v2, "moments_in_time": moments_in_time,
    "jester": jester, "diving48": diving48, "kth": kth,
}  # fmt: skip
