"""Commands called in this process."""

import json

from typer.testing import CliRunner

from muybridge.cli.app import app

runner = CliRunner()


def call(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


def document(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)
