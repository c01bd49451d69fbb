"""The command line: `jbn sweep`, `jbn export`, `jbn report`."""

from jbn.cli.app import main as main
