"""Other libraries that keep the values of calls on disk, if installed: each calls one function."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from inspect import getsource
from pathlib import Path
from typing import Any, Protocol

from cascade.observatory.benchmarks.peers import installed


def row(number: int) -> dict[str, Any]:
    """The function whose values are kept: a small record."""
    return {"number": number, "name": f"row {number}", "parts": [number, number + 1]}


class Keeper(Protocol):
    """Keeps the values of ``row`` in a folder."""

    @property
    def name(self) -> str: ...

    def open(self, folder: Path) -> None:
        """Begin to keep values in ``folder``."""

    def call(self, number: int) -> Any:
        """``row(number)``, from the folder if it is there."""

    def close(self) -> None: ...


class Joblib:
    """joblib.Memory: a folder for each call, named by a hash of its arguments."""

    distribution = "joblib"

    def __init__(self) -> None:
        self._module = import_module("joblib")
        self.name = f"joblib {version('joblib')}"

    def open(self, folder: Path) -> None:
        self._call = self._module.Memory(folder / "joblib", verbose=0).cache(row)

    def call(self, number: int) -> Any:
        return self._call(number)

    def close(self) -> None:
        """Nothing is left open."""


class Redun:
    """redun: a scheduler with a SQLite database."""

    distribution = "redun"

    def __init__(self) -> None:
        self._module = import_module("redun")
        self.name = f"redun {version('redun')}"

    def open(self, folder: Path) -> None:
        logging.getLogger("redun").setLevel(logging.ERROR)
        config = import_module("redun.config").Config(
            {"backend": {"db_uri": f"sqlite:///{folder}/redun.db"}}
        )
        self._task = self._module.task(namespace="benchmark")(row)
        self._scheduler = self._module.Scheduler(config=config)
        self._scheduler.load()

    def call(self, number: int) -> Any:
        return self._scheduler.run(self._task(number))

    def close(self) -> None:
        """The scheduler ends with the process."""


class Hamilton:
    """Hamilton: a driver with a cache, for a dataflow of one function."""

    distribution = "sf-hamilton"

    def __init__(self) -> None:
        self._driver = import_module("hamilton.driver")
        self.name = f"hamilton {version(self.distribution)}"

    def open(self, folder: Path) -> None:
        # A module of its own, because each function in it is a node; its source is part of keys.
        logging.getLogger("hamilton").setLevel(logging.ERROR)
        path = folder / "hamilton_rows.py"
        path.write_text(getsource(row).replace("dict[str, Any]", "dict"), encoding="utf-8")
        spec = spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        builder = self._driver.Builder().with_modules(module)
        self._built = builder.with_cache(path=folder / "hamilton").build()

    def call(self, number: int) -> Any:
        return self._built.execute(["row"], inputs={"number": number})["row"]

    def close(self) -> None:
        sys.modules.pop("hamilton_rows", None)


def installed_keepers() -> tuple[list[Keeper], list[str]]:
    """The installed peers, and the missing distributions."""
    return installed((Joblib, Redun, Hamilton))
