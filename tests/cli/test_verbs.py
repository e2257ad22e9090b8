"""The command line and the verbs of Python are one thing: the same arguments, the same names, the same defaults."""

import inspect

import pytest
from click import Argument, Parameter
from typer.main import get_command

import muybridge
from muybridge.cli.app import app

COMMANDS = get_command(app).commands
VERBS = {
    "train": ("train", "resume", "estimate", "find_lr"),
    "compare": ("compare", "plan"),
    "flow": ("flow", "flow_picture"),
}
"""Commands that more than one verb stands behind."""
WITHOUT_A_COMMAND = {
    "load": "the class behind `predict`: a run that stays loaded",
    "recipe_of": "what `train` makes of its arguments",
    "plot": "a chart in a notebook; as files the charts come by `report --figures`",
}

SPELLED = {
    "set": {"changes", "runtime", "options", "set"},
    "device": {"runtime"},
    "resume": {"run"},
    "all": {"all_as"},
    "video": {"videos"},
    "show": {"video"},
    "state": {"states"},
    "label": {"labels"},
    "id": {"ids"},
    "no_frames": {"with_frames"},
    "no_speed": {"speed"},
    "every": {"every_seconds"},
    "for": {"for_seconds"},
    "max_delay": {"max_delay_seconds"},
    **{f"max_{what}": {"limits"} for what in ("pixels", "frames", "seconds", "memory_gib")},
}
"""Options that are keywords under other names: they are written as a person types them."""
OF_THE_TERMINAL = {
    ("", "json"): "how the answer is printed",
    ("", "help"): "what is printed",
    ("report", "open"): "opens a browser",
    ("judge", "open"): "opens a browser",
    ("show", "open"): "opens a browser",
    ("compare", "dry_run"): "the verb is `plan` instead",
    ("train", "dry_run"): "the verb is `estimate` instead",
    ("train", "find_lr"): "the verb is `find_lr` instead",
    ("evaluate", "views_curve"): "a method of what the verb returns, `Scores.views_curve`",
}
OF_PYTHON = {
    ("compare", "estimate"): "what --dry-run asks for",
    ("judge", "ids"): "names of the videos of arrays, which files have themselves",
    ("judge", "groups"): "groups of the videos of arrays",
    ("events", "ready"): "prints each video as it is done",
    ("predict", "ready"): "prints each answer as it comes",
    ("stream", "told"): "prints what happens to the source",
    ("runs", "unreadable"): "prints a warning for each folder",
}
OTHER_DEFAULTS = {
    ("prepare", "out"): "required: the command says so in its own words",
    ("compare", "out"): "required, which `plan` alone does not",
    ("train", "out"): "required, unless a run is resumed",
    ("show", "out"): "required: a terminal shows no pictures",
    ("flow", "out"): "required for a store; a picture has a name by itself",
    ("flow", "manifest"): "required, unless a picture is drawn",
    ("runs", "folders"): "the current folder",
    ("diagnose", "video"): "none",
}


def written(parameter: Parameter) -> str:
    """The name of an option as it is typed."""
    if isinstance(parameter, Argument):
        return parameter.name
    return max(parameter.opts, key=len).removeprefix("--").replace("-", "_")


def keywords(verb):
    return inspect.signature(getattr(muybridge, verb)).parameters


def faults(command, parameters, signatures):
    """Options without a keyword, and keywords without an option."""
    found, reached = [], set()
    taken = set().union(*signatures.values())
    for option in map(written, parameters):
        if ("", option) in OF_THE_TERMINAL or (command, option) in OF_THE_TERMINAL:
            continue
        here = SPELLED.get(option, {option}) & taken
        if not here:
            found.append(f"{command} --{option}: no keyword of {' or '.join(signatures)}")
        reached |= here
    for verb, names in signatures.items():
        found += [
            f"muybridge.{verb}({name}=…): no option of {command}"
            for name in names
            if name not in reached and (command, name) not in OF_PYTHON
        ]
    return found


def of(command):
    return command, COMMANDS[command].params, {verb: keywords(verb) for verb in VERBS.get(command, (command,))}


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_keywords_and_keywords_are_options(command):
    assert not faults(*of(command))


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_on_one_side_alone_is_found(command):
    """The test above fails for each option that is taken away from either side."""
    name, parameters, signatures = of(command)
    for option in parameters:
        others = [other for other in parameters if other is not option]
        own = SPELLED.get(written(option), {written(option)}) & set().union(*signatures.values())
        shared = set().union(*(SPELLED.get(written(other), {written(other)}) for other in others))
        if own - shared:
            assert faults(name, others, signatures), f"{command} without --{written(option)}"
            less = {verb: set(names) - own for verb, names in signatures.items()}
            assert faults(name, parameters, less), f"{command} without the keyword of --{written(option)}"
    more = Argument(["unheard_of"])
    assert faults(name, [*parameters, more], signatures)
    assert faults(name, parameters, {**signatures, "more": {"unheard_of"}})


@pytest.mark.parametrize("command", COMMANDS)
def test_defaults_are_the_same(command):
    _, parameters, signatures = of(command)
    typed = inspect.signature(COMMANDS[command].callback).parameters
    for parameter in parameters:
        if (command, written(parameter)) in OTHER_DEFAULTS or written(parameter) in SPELLED:
            continue
        for verb, names in signatures.items():
            if written(parameter) in names:
                ours, theirs = typed[parameter.name].default, names[written(parameter)].default
                assert ours == theirs, f"{command} --{written(parameter)} is {ours}, of muybridge.{verb} {theirs}"


def test_every_verb_has_a_command_or_a_reason():
    behind = {verb for command in COMMANDS for verb in VERBS.get(command, (command,))}
    assert behind | WITHOUT_A_COMMAND.keys() == set(muybridge.__all__)
    assert not behind & WITHOUT_A_COMMAND.keys()


def test_no_exception_is_out_of_date():
    options = {(command, written(parameter)) for command in COMMANDS for parameter in COMMANDS[command].params}
    named = {option for _, option in options}
    assert SPELLED.keys() <= named
    assert {key for key in OF_THE_TERMINAL if key[0]} <= options
    assert OTHER_DEFAULTS.keys() <= options
    for command, name in OF_PYTHON:
        assert any(name in keywords(verb) for verb in VERBS.get(command, (command,)))
