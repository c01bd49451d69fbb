"""The command line: `jbn sweep`, `jbn export`, `jbn report`, `jbn importance`, `jbn retest`."""

from jbn.cli.app import main as main
