"""A run as a NetCDF file."""

import warnings
from pathlib import Path

from jbn import store
from jbn.errors import InputError
from jbn.runs.course import course_of_record
from jbn.runs.dataset import dataset


def write_netcdf(run: store.Record, path: Path, name: str) -> None:
    """All curves as `jbn.Result.curves` has them, with all settings of the run as attributes; NetCDF 4.

    Raises:
        InputError: the name of a hyper-parameter or of a setting is none that NetCDF can have, or a text has a
            character that it cannot.
    """
    del name
    own = dataset(course_of_record(run))
    packed = {name: {"zlib": True} for name, values in own.data_vars.items() if values.dtype.kind == "f"}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # a hyper-parameter with a space in its name is no coordinate in the file
        try:
            own.to_netcdf(path, engine="h5netcdf", encoding=packed)
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"NetCDF cannot hold this run ({error}): rename the hyper-parameter or setting, or export jsonl"
            ) from error
