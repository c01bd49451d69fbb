"""Recorded runs as files for other tools."""

from jbn.runs.export.formats import FORMATS as FORMATS
from jbn.runs.export.formats import export_run as export_run
from jbn.runs.export.formats import export_table as export_table
