"""Runs a file of Python whose recipes are cut to a taste: python small_driver.py FILE. (For snippets of the documents.)"""

import json
import os
import runpy
import sys

from muybridge import api

SETTINGS = json.loads(os.environ["SMALL_SETTINGS"])
whole = api.recipe_of


def recipe_of(*arguments, changes=None, **named):
    return whole(*arguments, changes={**(changes or {}), **SETTINGS}, **named)


if __name__ == "__main__":
    api.recipe_of = recipe_of
    runpy.run_path(sys.argv[1], run_name="__main__")
