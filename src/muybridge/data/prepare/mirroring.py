"""Names of mirrored classes: left becomes right, clockwise becomes counter-clockwise."""

import re

_SIDES = {"left": "right", "right": "left"}
_NOT_A_SIDE = r"(?! (?:out|away|after|before|now|back|through)\b)"
"""Words after which "right" means "at once" ("pulling it right out"), and "left" "behind"."""
_SIDE = re.compile(
    rf"(?:(?<![A-Za-z])(left|right)(?![a-z])|(?<![A-Z])(Left|Right)(?![a-z])|(?<![A-Z])(LEFT|RIGHT)(?![A-Z])){_NOT_A_SIDE}"
)
_AGAINST = re.compile(r"(counter|anti)([-_ ]?)clockwise", re.IGNORECASE)
_TURNS = [
    ("clockwise", f"{against}{joint}clockwise") for against in ("counter", "anti") for joint in ("", "-", "_", " ")
] + [("cw", "ccw")]


def mirror_map(classes: list[str]) -> tuple[dict[str, str], list[str]]:
    """Map each class to its mirrored class; list the classes that name a side or turn and have no counterpart."""
    mirrored: dict[str, str] = {}
    alone = []
    for name in classes:
        candidates = _mirrored(name)
        partner = next((candidate for candidate in candidates if candidate in classes), None)
        if partner is not None:
            mirrored[name] = partner
        elif candidates:
            alone.append(name)
    return mirrored, alone


def _mirrored(name: str) -> list[str]:
    """Possible names of the mirrored class; empty for a name without side or turn."""
    sided = _SIDE.sub(lambda word: _like(_SIDES[word.group().lower()], word.group()), name)  # not "bright"
    candidates = [sided] if sided != name else []
    for clockwise, against in _TURNS:
        for old, new in ((against, clockwise), (clockwise, against)):
            alone = rf"(?i:(?<![A-Za-z]){re.escape(old)}(?![A-Za-z]))"
            word = re.search(rf"{alone}|(?<=[a-z]){old.capitalize()}(?![a-z])", sided)  # TurnClockwise
            if word and not (old == "clockwise" and _AGAINST.search(sided)):
                candidates.append(sided[: word.start()] + _like(new, word.group()) + sided[word.end() :])
    return candidates


def _like(word: str, model: str) -> str:
    """Put `word` into the case of `model`."""
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word
