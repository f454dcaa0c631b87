"""Import of modules that a command line names by dotted name or by path."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Final

from cascade.command.failures import UsageError
from cascade.spec.nearby import did_you_mean

#: How names of modules begin that only this process can import.
_OWN_NAME: Final = "_cascade_target_"


def load(name: str) -> ModuleType:
    """Import ``package.module`` or ``some/folder/module.py``.

    A file in a package is imported under its dotted name, any other file under its own name with
    its folder first on ``sys.path``, as Python does for a script. Dotted names are also looked up
    in the working directory.

    Raises:
        UsageError: There is no such module.
        Exception: An error of the module's own code.
    """
    if name.endswith(".py") or os.sep in name or "/" in name:
        return _from_file(Path(name))
    _look_first_in(Path.cwd())
    _check_there(name)
    return importlib.import_module(name)


def send_by_value(file: str, is_far: bool) -> None:
    """Send definitions of a file by value to other processes, if these cannot import it.

    Args:
        file: A file that ``load`` has imported.
        is_far: Whether they are on a cluster, which has other files.
    """
    found = [m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == file]
    for module in found:
        if is_far or module.__name__.startswith(_OWN_NAME):
            # Without it, the error of the first call says what to install.
            with suppress(ImportError):
                from cloudpickle import register_pickle_by_value

                register_pickle_by_value(module)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        folder = path.parent
        there = [found.name for found in folder.glob("*.py")] if folder.is_dir() else []
        raise UsageError(f"there is no file {path}{did_you_mean(path.name, there)}")
    path = path.resolve()
    root, names = path.parent, [path.stem]
    while (root / "__init__.py").exists():
        names.insert(0, root.name)
        root = root.parent
    _look_first_in(root)
    dotted = ".".join(names)
    if _is_at(dotted, path):
        return importlib.import_module(dotted)
    # Its name already means another module, like `types.py`, or is none, like `my-flows.py`.
    return _under_a_name_of_its_own(path)


def _is_at(dotted: str, path: Path) -> bool:
    """Whether importing ``dotted`` gives the file at ``path``."""
    if not all(part.isidentifier() for part in dotted.split(".")):
        return False
    try:
        spec = importlib.util.find_spec(dotted)
    except ValueError:  # a module without a spec, like __main__
        return False
    except ModuleNotFoundError as error:
        if error.name != dotted:
            raise  # an import inside the user's package failed
        return False  # another module has the package's name, and is no package
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path


def _under_a_name_of_its_own(path: Path) -> ModuleType:
    name = f"{_OWN_NAME}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses, pickle and type hints look it up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _check_there(name: str) -> None:
    """Refuse a module that does not exist; a missing import inside it is another error."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(
            f"{name!r} is neither a module, such as flows.daily, nor a file, such as flows.py"
        )
    parent: ModuleType | None = None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        if parent is not None and not hasattr(parent, "__path__"):
            raise UsageError(f"there is no module {name}: {parent.__name__} is no package")
        sofar = ".".join(parts[:end])
        if sofar not in sys.modules and importlib.util.find_spec(sofar) is None:
            raise UsageError(f"there is no module {sofar}{did_you_mean(sofar, _beside(parent))}")
        if end < len(parts):
            parent = importlib.import_module(sofar)


def _beside(parent: ModuleType | None) -> Iterable[str]:
    """Names of the modules in a package, or of all importable modules if it is None."""
    if parent is None:
        return [found.name for found in pkgutil.iter_modules()]
    return [f"{parent.__name__}.{found.name}" for found in pkgutil.iter_modules(parent.__path__)]


def _look_first_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
