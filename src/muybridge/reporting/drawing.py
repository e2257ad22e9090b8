"""The drawing of a model as one SVG: depth goes down, and time goes from left to right, on one axis from top to bottom.

Between the boxes of the stages lie the steps that pass, as cells over the frames of the clip that they stand for. A band
over them shows how much of the clip the step in the middle may see. What looks along time has the accent's colour.

The drawing is made for 440 pixels, so that it is read on a phone, too. It follows the reader's light or dark setting, loads
nothing and runs nothing. It is given plain values (`muybridge.models`), and the same values give the same bytes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log2
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from muybridge.errors import UserError
from muybridge.runtime.files import write_new
from muybridge.text import giga, listed, millions, plural, printable, shortened, thousands

Values = Mapping[str, Any]

WIDTH = 440
MARGIN = 12
INNER = WIDTH - 2 * MARGIN
PAD = 10
GUTTER = 16
"""Between pathways side by side."""
CHIP = 24
"""Height of an operation with one line of text."""
LINE = 14
LEAST_COLUMN = 60
"""Width of a branch beside others; where there are more than fit, those that do the same are one, and the rest go below."""
MOST_CELLS = 128
"""Steps that are drawn one by one; more are one bar."""

STYLE = """\
:root { color-scheme: light dark; }
.paper { fill: #ffffff; } .card { fill: #f5f7f9; stroke: #d9dee4; } .box { fill: none; stroke: #aab4bf; }
.chip { fill: #ffffff; stroke: #c3cad2; } .cell { fill: #9aa5b1; } .line { stroke: #8894a0; fill: none; }
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; fill: #1f2328; }
.title { font-size: 18px; font-weight: 650; } .strong { font-size: 13px; font-weight: 650; } .soft { fill: #57606a; }
.time { fill: #a8410b; } .strong.time { fill: #a8410b; } .see { fill: #e9772f; fill-opacity: .45; } .mid { fill: #c2500f; }
.look { fill: #fbe9df; stroke: #c2500f; } .mark { stroke: #a8410b; fill: none; stroke-width: 1.4; } .dot { fill: #a8410b; }
.share { fill: #c3cad2; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #14181d; } .card { fill: #1d232a; stroke: #343b44; } .box { stroke: #5b6672; }
  .chip { fill: #14181d; stroke: #48515c; } .cell { fill: #6d7885; } .line { stroke: #7d8894; }
  text { fill: #e4e8ed; } .soft { fill: #a3adb9; }
  .time, .strong.time { fill: #f5a06f; } .see { fill: #f08a4b; fill-opacity: .4; } .mid { fill: #f08a4b; }
  .look { fill: #3a2418; stroke: #e07b3c; } .mark { stroke: #f5a06f; } .dot { fill: #f5a06f; } .share { fill: #48515c; }
}
"""

KINDS = {
    "shift": ("temporal shift", "temporal shifts", "Temporal shift: some channels come from the frames beside."),
    "conv": ("temporal convolution", "temporal convolutions", "Convolution along time: its kernel spans frames."),
    "pool": ("temporal pool", "temporal pools", "Temporal pool: the maximum or the mean of some frames."),
    "attention": ("attention along time", "attentions along time", "Attention: each place looks at all frames."),
    "recurrence": ("recurrent layer", "recurrent layers", "Recurrent layer: a state goes from frame to frame."),
    "squeeze": ("squeeze", "squeezes", "Squeeze: the mean over the clip weighs the channels."),
    "joined": (
        "layer over several frames",
        "layers over several frames",
        "One layer over the values of several frames.",
    ),
    "mean": ("mean over frames", "means over frames", "Mean: frames, or their answers, are averaged."),
    "stride": ("", "", "Some frames are left out."),
}
"""Ways to look along time: names for one and for several, and a line of the legend. Where frames are left out, none meet."""

ICONS = {
    "shift": "M1 4h9M7 1l3 3-3 3M11 9H2M5 6L2 9l3 3",
    "conv": "M1 3h10M1 3v2M11 3v2M1 8h2v3H1zM5 8h2v3H5zM9 8h2v3H9z",
    "pool": "M1 2l5 7 5-7M6 2v7",
    "stride": "M1 6h2M9 6h2M1 3v6M11 3v6",
    "attention": "M1 10L6 2l5 8M1 10h10M6 2v8",
    "recurrence": "M10 6a4 4 0 1 1-2-3.5M8 0v3h-3",
    "squeeze": "M1 2h10M3 6h6M5 10h2",
    "mean": "M1 2v4h10V2M6 6v5M6 2v4",
    "joined": "M1 4h3v4H1zM4.5 4h3v4h-3zM8 4h3v4H8z",
}
"""Marks of 12 x 12 for them."""


def check_drawing(path: Path) -> None:
    """Raise UserError for a path that a drawing cannot be written to, or that holds a file."""
    if path.suffix.lower() != ".svg":
        shown = f"'{path}'" if path.name else "it"
        raise UserError(f"--draw: {shown} does not end in .svg, and a drawing is an SVG. Name a file that does")
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: it exists already. Choose another --draw")


def write_drawing(path: Path, model: Values) -> None:
    """Draw a model into a new file. `model`: what `muybridge.models` answers. Raises UserError where the file is there."""
    check_drawing(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, drawing(model))
    except OSError as error:
        raise UserError(f"--draw: {path} cannot be written: {error.strerror}. Name another place") from error


def drawing(model: Values) -> str:
    """The SVG of a model. `model`: what `muybridge.models` answers, with its `structure`."""
    return _Drawing(model).svg()


@dataclass
class _Column:
    """A pathway's place on the page."""

    x: float
    width: float
    stages: list[Values]


@dataclass
class _Drawing:
    """A drawing in the making: `y` is where the next part begins."""

    model: Values
    parts: list[str] = field(default_factory=list)
    y: float = 14

    @property
    def structure(self) -> Values:
        found: Values = self.model["structure"]
        return found

    def svg(self) -> str:
        """The whole document."""
        self._head()
        stages = self.structure["stages"]
        lanes = list(dict.fromkeys(stage["pathway"] for stage in stages if stage["pathway"]))
        clip = self.structure["clip"]
        self._axis()
        self._strip(MARGIN, INNER, clip, 0, 0, name="clip" if clip["size"] else "video")
        if lanes:
            width = (INNER - GUTTER * (len(lanes) - 1)) / len(lanes)
            columns = [
                _Column(MARGIN + i * (width + GUTTER), width, [s for s in stages if s["pathway"] == lane])
                for i, lane in enumerate(lanes)
            ]
            self._pathways(columns, lanes)
        for stage in stages:
            if not stage["pathway"]:
                self._arrow(WIDTH / 2)
                self._stage(MARGIN, INNER, stage)
                self._strip(MARGIN, INNER, stage["out"], stage["behind"], stage["ahead"])
        self._legend()
        height = self.y + 6
        title = f"{self._name()}: its structure, from the clip to the answer"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_n(height)}" width="{WIDTH}" '
            f'height="{_n(height)}" style="max-width: 100%; height: auto" role="img" aria-labelledby="title desc">\n'
            f'<title id="title">{_text(title)}</title>\n<desc id="desc">{_text(self._description())}</desc>\n'
            f"<style>\n{STYLE}</style>\n"
            f'<rect class="paper" width="{WIDTH}" height="{_n(height)}" rx="8"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )

    # -- words

    def _name(self) -> str:
        return " ".join(str(self.model["model"]).split())

    def _counted(self) -> str:
        """Numbers of the places where frames meet, by kind."""
        kinds = [look["kind"] for look in self.structure["looks"]]
        counts = {kind: kinds.count(kind) for kind in KINDS if kind in kinds and KINDS[kind][0]}
        found = [f"{count} {KINDS[kind][0 if count == 1 else 1]}" for kind, count in counts.items()]
        return listed(found) if found else ""

    def _outside(self) -> str:
        """Line about the costs that are not drawn, as no module has them."""
        outside = self.structure["outside"]
        costs = {"params": outside["params"], "multiply-adds": outside["macs"]}
        found = [f"{_amount(cost)} {name}" for name, cost in costs.items() if cost]
        return f"Not drawn: {' and '.join(found)} outside of modules." if found else ""

    def _description(self) -> str:
        model, structure = self.model, self.structure
        counted = self._counted()
        where = f"Frames meet in {counted}." if counted else "Frames do not meet."
        where = f"{where} {self._outside()}".strip()
        stages = [
            (f"{stage['pathway']} {stage['name']}" if stage["pathway"] else stage["name"])
            + f" to {_shape(stage['out'])}"
            for stage in structure["stages"]
        ]
        return (
            f"One clip of {_shape(structure['clip'])}, {_amount(model['params'])} parameters, {_amount(model['macs'])} "
            f"multiply-adds. {where} Stages: {'; '.join(stages)}."
        )

    def _head(self) -> None:
        model = self.model
        self.y += 14
        self._write(MARGIN, self.y, _fitting(self._name(), 18, INNER, bold=True), "title")
        kind = "clip" if model["size"] else "video of vectors"
        self.y += 6
        costs = f"{_amount(model['params'])} parameters, {_amount(model['macs'])} multiply-adds"
        self._lines(MARGIN, INNER, f"one {kind}, {plural(model['num_classes'], 'class')}: {costs}")
        counted = self._counted()
        words = f"Frames meet in {counted}." if counted else "Frames do not meet."
        for line in _wrapped(words, 13, INNER, bold=True):
            self.y += 19
            self._write(MARGIN, self.y, line, "strong time" if counted else "strong")
        self._lines(MARGIN, INNER, self._outside())
        self.y += 12

    # -- data

    def _axis(self) -> None:
        self.y += 12
        self._write(MARGIN, self.y, "time", "soft")
        x, end, y = MARGIN + 34, MARGIN + INNER, self.y - 4
        self.parts.append(f'<path class="line" d="M{x} {_n(y)}H{end - 1}M{end - 6} {_n(y - 4)}l5 4-5 4"/>')
        self.y += 8

    def _strip(self, x: float, width: float, volume: Values, behind: int, ahead: int, *, name: str = "") -> None:
        """The steps that pass, over the frames that they stand for, and what the one in the middle sees."""
        frames, clip = volume["frames"], max(1, self.structure["clip"]["frames"])
        side = volume["size"][0] if len(volume["size"]) == 2 else 1
        height = round(5 + 2.6 * log2(side + 1))
        top = self.y + 2
        count = frames or 1
        cell = width / count
        middle = (count - 1) // 2
        seen, band = 1.0, ""
        if frames:
            centre = (middle + 0.5) * clip / count
            first, last = max(0.0, centre - 0.5 - behind), min(clip, centre + 0.5 + ahead)
            seen = last - first
            left = x + min(first * width / clip, middle * cell)
            right = x + max(last * width / clip, (middle + 1) * cell)
            band = f'<rect class="see" x="{_n(left)}" y="{_n(top - 4)}" width="{_n(right - left)}" height="{height + 8}" rx="2"/>'
        gap = 2 if cell > 12 else 1 if cell > 4 else 0
        if not frames or frames > MOST_CELLS:
            self.parts.append(
                f'<rect class="cell" x="{_n(x)}" y="{_n(top)}" width="{_n(width)}" height="{height}" rx="1"/>{band}'
            )
        else:
            shapes = "".join(
                f"M{_n(x + i * cell + gap / 2)} {_n(top)}h{_n(cell - gap)}v{height}h-{_n(cell - gap)}z"
                for i in range(count)
                if i != middle
            )
            if shapes:
                self.parts.append(f'<path class="cell" d="{shapes}"/>')
            self.parts.append(
                f'{band}<rect class="mid" x="{_n(x + middle * cell + gap / 2)}" y="{_n(top)}" width="{_n(cell - gap)}" '
                f'height="{height}"/>'
            )
        self.y = top + height + 16
        words = f"{name}  {_shape(volume)}" if name else _shape(volume)
        self._write(x, self.y, words, "")
        sees = f"sees {round(seen)} of {plural(clip, 'frame' if self.structure['clip']['size'] else 'step')}"
        if seen > 1 and _wide(words, 12) + _wide(sees, 12) + 12 < width:
            self._write(x + width, self.y, sees, "time", anchor="end")
        elif seen > 1:
            self.y += 15
            self._write(x, self.y, sees, "time")
        self.y += 6

    def _arrow(self, x: float) -> None:
        self.parts.append(f'<path class="line" d="M{_n(x)} {_n(self.y)}v9m-4-4l4 4 4-4"/>')
        self.y += 13

    # -- stages

    def _pathways(self, columns: Sequence[_Column], lanes: Sequence[str]) -> None:
        """Pathways side by side, stage beside stage."""
        laterals = self.structure["laterals"]
        self.y += 6
        for column, lane in zip(columns, lanes, strict=True):
            self._write(column.x, self.y + 12, _fitting(lane, 13, column.width, bold=True), "strong")
        self.y += 18
        for index in range(max(len(column.stages) for column in columns)):
            begin, ends = self.y, []
            tops = []
            for column, lane in zip(columns, lanes, strict=True):
                if index >= len(column.stages):
                    continue
                stage = column.stages[index]
                self.y = begin
                self._arrow(column.x + column.width / 2)
                led = [each for each in laterals if each["target"] == lane and each["before"] == stage["name"]]
                for each in led:
                    source = columns[lanes.index(each["source"])]
                    tops.append((column, source, self._stage(column.x, column.width, stage, led)))
                if not led:
                    self._stage(column.x, column.width, stage)
                ends.append(self.y)
            below = max(ends)
            for column in columns:  # strips at one height
                if index < len(column.stages):
                    stage = column.stages[index]
                    self.y = below
                    self._strip(column.x, column.width, stage["out"], stage["behind"], stage["ahead"])
                    ends.append(self.y)
            for target, source, y in tops:
                is_right = source.x > target.x
                start = source.x if is_right else source.x + source.width
                end = target.x + target.width - PAD if is_right else target.x + PAD
                turn = 4 if is_right else -4
                self.parts.append(
                    f'<path class="mark" d="M{_n(start)} {_n(y)}H{_n(end)}m{turn} -4l{-turn} 4 {turn} 4"/>'
                )
            self.y = max(ends)

    def _stage(self, x: float, width: float, stage: Values, laterals: Iterable[Values] = ()) -> float:
        """The box of a stage, drawn behind what is in it when its height is known; where a lateral connection comes in."""
        place, top = len(self.parts), self.y
        inner = width - 2 * PAD
        self.y += 19
        name = _fitting(str(stage["name"]), 13, inner, bold=True)
        self._write(x + PAD, self.y, name, "strong")
        cost = _cost(stage)
        if cost and _wide(name, 13, bold=True) + _wide(cost, 12) + 12 <= inner:
            self._write(x + width - PAD, self.y, cost, "soft", anchor="end")
        else:
            self._costs(x + PAD, inner, cost)
        self.y += 9
        enters = self.y + CHIP / 2
        for lateral in laterals:
            self._flow(
                x + PAD, inner - 16, [{**op, "label": f"{lateral['source']}: {op['label']}"} for op in lateral["ops"]]
            )
            self.y -= 9
            self._costs(x + PAD, inner, f"connection: {_cost(lateral)}")
            self.y += 9
        for block in stage["blocks"]:
            if block["kind"]:
                self._block(x + PAD, inner, block)
            else:
                self._flow(x + PAD, inner, block["branches"][0])
        share = stage["macs"] / self.model["macs"] if self.model["macs"] else 0.0
        if share >= 0.005:
            long = max(1.0, share * inner)
            bar = f'x="{_n(x + PAD)}" y="{_n(self.y + 1)}" width="{_n(long)}" height="4" rx="1"'
            self.parts.append(f'<rect class="share" {bar}/>')
            self.y += 8
        self.y += 3
        card = f'<rect class="card" x="{_n(x)}" y="{_n(top)}" width="{_n(width)}" height="{_n(self.y - top)}" rx="6"/>'
        self.parts.insert(place, card)
        self.y += 5
        return enters

    def _costs(self, x: float, width: float, cost: str) -> None:
        for part in [cost] if _wide(cost, 12) <= width else cost.split(" · "):
            self._lines(x, width, part)

    def _lines(self, x: float, width: float, text: str) -> None:
        for line in _wrapped(text, 12, width):
            self.y += 16
            self._write(x, self.y, line, "soft")

    def _block(self, x: float, width: float, block: Values) -> None:
        place, top = len(self.parts), self.y
        times = f" ×{len(block['names'])}" if len(block["names"]) > 1 else ""
        branches, beside = block["branches"], ()
        if block["shortcut"] == "looks":
            *branches, beside = branches
        note = "beside a shortcut" if block["shortcut"] else ""
        if block["joined"] == "channels":
            note = f"{len(branches)} branches, channels joined"
        elif len(branches) > 1:
            note = f"{len(branches)} branches{' and a shortcut' if block['shortcut'] else ''}, summed"
        inner = width - 2 * PAD
        name = _fitting(str(block["kind"]), 12, inner - _wide(times, 12)) + times
        self.y += 17
        self._write(x + PAD, self.y, name, "")
        if note and _wide(name, 12) + _wide(note, 12) + 12 <= inner:
            self._write(x + width - PAD, self.y, note, "soft", anchor="end")
        else:
            self._lines(x + PAD, inner, note)
        self.y += 7
        if len(branches) > 1:
            self._columns(x + PAD, inner, branches)
        else:
            self._flow(x + PAD, inner, branches[0] if branches else ())
        if beside:
            self._write(x + PAD, self.y + 15, "shortcut", "soft")
            self._flow(x + PAD + 60, inner - 60, beside)
        self.y += 1
        box = f'<rect class="box" x="{_n(x)}" y="{_n(top)}" width="{_n(width)}" height="{_n(self.y - top)}" rx="5"/>'
        self.parts.insert(place, box)
        self.y += 7

    def _columns(self, x: float, width: float, branches: Sequence[Sequence[Values]]) -> None:
        """Branches side by side, the first operation above, in as many rows as they need."""
        most = int((width + 6) // (LEAST_COLUMN + 6))
        if len(branches) > most:
            branches = _together(branches)
        for start in range(0, len(branches), most):
            self._row(x, width, branches[start : start + most])

    def _row(self, x: float, width: float, branches: Sequence[Sequence[Values]]) -> None:
        column = (width - 6 * (len(branches) - 1)) / len(branches)
        top, ends = self.y, [self.y]
        for index, branch in enumerate(branches):
            left = x + index * (column + 6)
            self.y = top
            for place, op in enumerate(branch):
                if place:
                    self.parts.append(f'<path class="line" d="M{_n(left + column / 2)} {_n(self.y - 5)}v4"/>')
                lines = [part for label in str(op["label"]).split(" | ") for part in _wrapped(label, 12, column - 24)]
                lines += [channels] if (channels := _width(op)) else []
                height = 10 + LINE * len(lines)
                self._chip(left, self.y, column, height, op, lines)
                self.y += height + 5
            ends.append(self.y)
        self.y = max(ends) + 2

    def _flow(self, x: float, width: float, ops: Sequence[Values]) -> None:
        """Operations one after another, in lines."""
        left = x
        for index, op in enumerate(ops):
            text = " · ".join(part for part in (str(op["label"]), _width(op)) if part)
            room = width - 14 - (18 if op["looks"] else 0)
            text = _fitting(text, 12, room)
            size = _wide(text, 12) + 14 + (18 if op["looks"] else 0)
            if index and left + 14 + size > x + width:
                left, self.y = x, self.y + CHIP + 6
            elif index:
                self.parts.append(f'<path class="line" d="M{_n(left + 4)} {_n(self.y + CHIP / 2 - 3)}l3 3-3 3"/>')
                left += 12
            self._chip(left, self.y, size, CHIP, op, [text])
            left += size
        self.y += CHIP + 7 if ops else 0

    def _chip(self, x: float, y: float, width: float, height: float, op: Values, lines: Sequence[str]) -> None:
        looks = op["looks"]
        self.parts.append(
            f'<rect class="{"look" if looks else "chip"}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" '
            f'height="{_n(height)}" rx="4"/>'
        )
        indent = 0.0
        if looks:
            self._icon(x + 6, y + height / 2 - 6, looks[0]["kind"])
            indent = 18
        for index, line in enumerate(lines):
            middle = y + height / 2 + 4.5 + (index - (len(lines) - 1) / 2) * LINE
            self._write(x + indent + (width - indent) / 2, middle, line, "time" if looks else "", anchor="middle")

    def _icon(self, x: float, y: float, kind: str) -> None:
        self.parts.append(f'<path class="mark" transform="translate({_n(x)} {_n(y)})" d="{ICONS[kind]}"/>')

    # -- legend

    def _legend(self) -> None:
        """The meaning of the marks that occur."""
        self.y += 10
        self.parts.append(f'<path class="line" d="M{MARGIN} {_n(self.y)}h{INNER}"/>')
        self.y += 4
        occurring = {look["kind"] for look in self.structure["looks"]}
        for kind in KINDS:
            if kind in occurring:
                self.y += 20
                self._icon(MARGIN, self.y - 10, kind)
                self._write(MARGIN + 20, self.y, KINDS[kind][2], "")
        notes = []
        if any(stage["params"] for stage in self.structure["stages"]):
            notes.append("Bold: names of the network's modules in its code, the first – the last.")
        clip = self.structure["clip"]
        shape = "frames × height × width × channels" if clip["size"] else "steps × values"
        notes.append(f"Cells are the steps that pass, over their frames: {shape}.")
        if any(stage["behind"] + stage["ahead"] for stage in self.structure["stages"]):
            notes.append("The band is what the step in the middle may see of the clip.")
        blocks = [block for stage in self.structure["stages"] for block in stage["blocks"]]
        ops = [op for block in blocks for branch in block["branches"] for op in branch]
        if any("×" in str(op["label"]) and op["widths"][1] for op in ops):
            has_3d = any(str(op["label"]).split(" ")[0].count("×") == 2 for op in ops)
            axes = "time × height × width, or height × width" if has_3d else "height × width"
            notes.append(f"Kernels are {axes}; behind the dot, channels.")
        notes.append("The grey bar is a stage's share of the multiply-adds (MACs).")
        unused = self.structure["training_params"]
        if unused:
            notes.append(f"Beside this, {_amount(unused)} parameters work in training alone.")
        self.y += 4
        for note in notes:
            self._lines(MARGIN, INNER, note)
        self.y += 10

    def _write(self, x: float, y: float, text: str, kind: str, *, anchor: str = "") -> None:
        about = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
        self.parts.append(f'<text x="{_n(x)}" y="{_n(y)}"{about}>{_text(text)}</text>')


def _together(branches: Sequence[Sequence[Values]]) -> list[list[Values]]:
    """Branches of which those that do the same are one, and its first operation says of how many."""

    def shown(branch: Sequence[Values]) -> str:
        return repr([(op["label"], op["widths"], [look["kind"] for look in op["looks"]]) for op in branch])

    counts = Counter(shown(branch) for branch in branches)
    first = {shown(branch): branch for branch in reversed(branches)}
    found = []
    for branch, times in counts.items():
        op, *rest = first[branch]
        found.append([{**op, "label": f"{op['label']} | ×{times}"} if times > 1 else op, *rest])
    return found


def _text(text: str) -> str:
    """Text from data, as text in XML."""
    return escape(printable(" ".join(text.split())))


def _n(number: float) -> str:
    """A number with at most one digit behind the point."""
    return f"{number:.1f}".removesuffix(".0")


def _wide(text: str, size: float, *, bold: bool = False) -> float:
    """Width of a text in the widest of the fonts, roughly."""
    narrow = sum(character in " .,:;|il'()·-" for character in text)
    wide = sum(character in "×±−mMW" for character in text)
    return size * ((0.64 if bold else 0.6) * (len(text) - narrow) + 0.25 * wide + 0.36 * narrow)


def _fitting(text: str, size: float, width: float, *, bold: bool = False) -> str:
    """Text with its middle left out where it is wider than there is room."""
    shown = printable(text)
    most = len(shown)
    while most > 3 and _wide(shortened(shown, most), size, bold=bold) > width:
        most -= 1
    return shortened(shown, most)


def _wrapped(text: str, size: float, width: float, *, bold: bool = False) -> list[str]:
    """Lines of a text that fit; a word that is too long is shortened."""
    lines: list[str] = []
    for word in text.split():
        together = f"{lines[-1]} {word}" if lines else word
        if lines and _wide(together, size, bold=bold) <= width:
            lines[-1] = together
        else:
            lines.append(_fitting(word, size, width, bold=bold))
    return lines


def _shape(volume: Values) -> str:
    """Frames × height × width × channels, or those of them that there are."""
    if not volume["frames"]:
        return f"{thousands(volume['size'][0])} tokens × {thousands(volume['channels'])}"
    return " × ".join(thousands(n) for n in (volume["frames"], *volume["size"], volume["channels"]))


def _width(op: Values) -> str:
    least, most = op["widths"]
    if not most:
        return ""
    return thousands(most) if least == most else f"{thousands(least)}–{thousands(most)}"


def _cost(part: Values) -> str:
    """Parameters and multiply-adds of a stage; nothing where it has neither."""
    costs = part["params"] or part["macs"]
    return f"{_amount(part['params'])} params · {_amount(part['macs'])} MACs" if costs else ""


def _amount(count: int) -> str:
    """A number in billions, millions, or thousands."""
    return giga(count) if count >= 1e9 else millions(count) if count >= 1e5 else thousands(count)
