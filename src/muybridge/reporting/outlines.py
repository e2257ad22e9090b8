"""Text of a drawing as paths, so that it looks the same where its font is missing.

The outlines are those of the TrueType fonts that the same drawing has as a PDF: vl-convert embeds what it sets.
"""

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

SVG = "http://www.w3.org/2000/svg"
BOLD = 600
"""Least weight of bold text."""


@dataclass(frozen=True)
class Glyph:
    """Outline of a character, in shares of the font's size, upwards from the baseline."""

    width: float
    contours: tuple[tuple[tuple[float, float, bool], ...], ...]
    """Closed contours: points (x, y, on the curve?); between two that are not on it lies one that is (quadratic)."""

    def path(self, x: float, size: float) -> str:
        """Path of an SVG, with the baseline's start at (x, 0)."""
        return "".join(_contour([(x + size * px, -size * py, on) for px, py, on in points]) for points in self.contours)


Fonts = Mapping[tuple[bool, str], Glyph]
"""Glyphs by whether they are bold, and character."""


def fonts_of(pdf: bytes) -> Fonts:
    """Glyphs of the fonts that are embedded in a PDF of vl-convert; those of other kinds than TrueType are left out."""
    objects = {int(number): body for number, body in re.findall(rb"(\d+) 0 obj\n(.*?)\nendobj", pdf, re.S)}
    glyphs: dict[tuple[bool, str], Glyph] = {}
    for body in objects.values():
        if b"/Subtype /Type0" not in body:
            continue
        descendant = objects[_reference(body, b"/DescendantFonts [")]
        descriptor = objects[_reference(descendant, b"/FontDescriptor ")]
        if b"/FontFile2" not in descriptor:
            continue
        font = _Font(_stream(objects[_reference(descriptor, b"/FontFile2 ")]))
        is_bold = b"-Bold" in body
        for number, text in _characters(_stream(objects[_reference(body, b"/ToUnicode ")])):
            if number and len(text) == 1 and (glyph := font.glyph(number)) is not None:  # 0: it has no such character
                glyphs.setdefault((is_bold, text), glyph)
    return glyphs


def outlined(svg: str, fonts: Fonts) -> tuple[str, bool]:
    """SVG with its text as paths, and whether all text is; text with a character that no font has is left as it is."""
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(svg)
    whole = True
    for element in root.iter(f"{{{SVG}}}text"):
        text = "".join(element.itertext())
        is_bold = _is_bold(element.get("font-weight", "normal"))
        glyphs = [fonts.get((is_bold, one)) or fonts.get((not is_bold, one)) for one in text]
        if not all(glyphs):
            whole = False
            continue
        size = float(element.get("font-size", "11px").removesuffix("px"))
        known = [glyph for glyph in glyphs if glyph is not None]
        total = size * sum(glyph.width for glyph in known)
        x = -total * {"middle": 0.5, "end": 1.0}.get(element.get("text-anchor", "start"), 0.0)
        x += float(element.get("x", 0))
        paths = []
        for glyph in known:
            paths.append(glyph.path(x, size))
            x += size * glyph.width
        kept = {name: value for name, value in element.attrib.items() if not name.startswith(("font", "text-"))}
        element.clear()
        element.tag = f"{{{SVG}}}path"
        element.attrib.update(kept | {"d": "".join(paths), "aria-label": text})
    return ElementTree.tostring(root, encoding="unicode"), whole


def _is_bold(weight: str) -> bool:
    return weight == "bold" or (weight.isdigit() and int(weight) >= BOLD)


def _reference(body: bytes, name: bytes) -> int:
    """Number of the object that an entry refers to."""
    return int(body.split(name, 1)[1].split()[0])


def _stream(body: bytes) -> bytes:
    head, _, rest = body.partition(b"stream\n")
    data = rest[: int(head.split(b"/Length ")[1].split()[0])]
    return zlib.decompress(data) if b"/FlateDecode" in head else data


def _characters(cmap: bytes) -> list[tuple[int, str]]:
    """Numbers of glyphs and their texts, by a ToUnicode map."""
    parts = re.findall(rb"beginbfchar\n(.*?)endbfchar", cmap, re.S)
    pairs = [pair for part in parts for pair in re.findall(rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>", part)]
    return [(int(number, 16), bytes.fromhex(text.decode()).decode("utf-16-be")) for number, text in pairs]


class _Font:
    """Outlines of a TrueType font (OpenType 1.9, tables glyf, loca, hmtx)."""

    def __init__(self, data: bytes) -> None:
        self._tables: dict[str, bytes] = {}
        for number in range(struct.unpack(">H", data[4:6])[0]):
            tag, _, offset, length = struct.unpack(">4sIII", data[12 + 16 * number : 28 + 16 * number])
            self._tables[tag.decode("latin-1")] = data[offset : offset + length]
        head = self._tables["head"]
        self._units: int = struct.unpack(">H", head[18:20])[0]
        has_long = struct.unpack(">h", head[50:52])[0]
        loca = self._tables["loca"]
        count = len(loca) // (4 if has_long else 2)
        places = struct.unpack(f">{count}{'I' if has_long else 'H'}", loca)
        self._offsets = [place if has_long else 2 * place for place in places]
        self._num_widths: int = struct.unpack(">H", self._tables["hhea"][34:36])[0]

    def glyph(self, number: int) -> Glyph | None:
        """A glyph by its number; None where the font has not that many."""
        if not 0 <= number < len(self._offsets) - 1:
            return None
        place = 4 * min(number, self._num_widths - 1)
        width = struct.unpack(">H", self._tables["hmtx"][place : place + 2])[0]
        contours = tuple(
            tuple((x / self._units, y / self._units, on) for x, y, on in points) for points in self._contours(number)
        )
        return Glyph(width / self._units, contours)

    def _contours(self, number: int, depth: int = 0) -> list[list[tuple[float, float, bool]]]:
        data = self._tables["glyf"][self._offsets[number] : self._offsets[number + 1]]
        if not data or depth > 5:
            return []
        count = struct.unpack(">h", data[:2])[0]
        return self._compound(data, depth) if count < 0 else _simple(data, count)

    def _compound(self, data: bytes, depth: int) -> list[list[tuple[float, float, bool]]]:
        """Contours of the glyphs that one is put together of, such as a letter and its accent."""
        contours: list[list[tuple[float, float, bool]]] = []
        at, more = 10, True
        while more:
            flags, number = struct.unpack(">HH", data[at : at + 4])
            at += 4
            dx, dy = struct.unpack(">hh" if flags & 1 else ">bb", data[at : at + (4 if flags & 1 else 2)])
            at += 4 if flags & 1 else 2
            a, b, c, d = 1.0, 0.0, 0.0, 1.0
            scales = 1 if flags & 8 else 2 if flags & 64 else 4 if flags & 128 else 0
            values = [one / 16384 for one in struct.unpack(f">{scales}h", data[at : at + 2 * scales])]
            at += 2 * scales
            if scales == 1:
                a = d = values[0]
            elif scales == 2:
                a, d = values
            elif scales == 4:
                a, b, c, d = values
            if not flags & 2:  # placed by points, not by an offset
                dx = dy = 0
            contours += [
                [(a * x + c * y + dx, b * x + d * y + dy, on) for x, y, on in points]
                for points in self._contours(number, depth + 1)
            ]
            more = bool(flags & 32)
        return contours


def _simple(data: bytes, count: int) -> list[list[tuple[float, float, bool]]]:
    """Contours of a glyph that is drawn by itself."""
    ends = struct.unpack(f">{count}H", data[10 : 10 + 2 * count])
    at = 10 + 2 * count
    at += 2 + struct.unpack(">H", data[at : at + 2])[0]  # instructions for small screens
    total = ends[-1] + 1 if ends else 0
    flags: list[int] = []
    while len(flags) < total:
        flag, times = data[at], 1
        at += 1
        if flag & 8:
            times += data[at]
            at += 1
        flags += [flag] * times
    axes = []
    for short, same in ((2, 16), (4, 32)):
        value, values = 0, []
        for flag in flags:
            if flag & short:
                value += data[at] if flag & same else -data[at]
                at += 1
            elif not flag & same:
                value += struct.unpack(">h", data[at : at + 2])[0]
                at += 2
            values.append(value)
        axes.append(values)
    points = [(float(x), float(y), bool(flag & 1)) for x, y, flag in zip(*axes, flags, strict=True)]
    starts = [0, *(end + 1 for end in ends)]
    return [points[start : end + 1] for start, end in zip(starts, ends, strict=False)]


def _contour(points: list[tuple[float, float, bool]]) -> str:
    """A closed contour as a path: lines and quadratic curves."""
    whole: list[tuple[float, float, bool]] = []
    for (x, y, on), (next_x, next_y, next_on) in zip(points, points[1:] + points[:1], strict=True):
        whole.append((x, y, on))
        if not on and not next_on:
            whole.append(((x + next_x) / 2, (y + next_y) / 2, True))
    first = next((number for number, (_, _, on) in enumerate(whole) if on), None)
    if first is None:
        return ""
    whole = whole[first:] + whole[:first]
    parts = [f"M{_number(whole[0][0])} {_number(whole[0][1])}"]
    around = [*whole[1:], whole[0]]
    at = 0
    while at < len(around):
        x, y, on = around[at]
        if on:
            parts.append(f"L{_number(x)} {_number(y)}")
            at += 1
        else:
            end_x, end_y, _ = around[at + 1]
            parts.append(f"Q{_number(x)} {_number(y)} {_number(end_x)} {_number(end_y)}")
            at += 2
    return "".join([*parts, "Z"])


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
