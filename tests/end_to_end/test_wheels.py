"""Builds the wheels and installs them, layer by layer, in new environments without a network."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from email.parser import HeaderParser
from pathlib import Path
from typing import NamedTuple

import pytest
import trove_classifiers
from packaging.metadata import Metadata

ROOT = Path(__file__).parents[2]
# The contents of each distribution in `cascade/`; a distribution needs those above it in this list.
LAYERS = {
    "cascade-spec": {"spec"},
    "cascade-graph": {"graph"},
    "cascade-engine": {"runtime", "adapters", "command", "testing", "web"},
    "cascade-observatory": {"observatory"},
}
DISTRIBUTIONS = tuple(LAYERS)

PROBE = """
import importlib.metadata, importlib.util, json
import cascade

def why_not(name):
    try:
        getattr(cascade, name)
    except AttributeError as error:
        return str(error)

layers = (
    "spec", "graph", "runtime", "adapters", "command", "testing", "web", "observatory"
)
public = cascade.__all__
for name in public:
    getattr(cascade, name)
print(json.dumps({
    "layers": [name for name in layers if importlib.util.find_spec("cascade." + name)],
    "public": public,
    "visualize": why_not("visualize"),
    "run": why_not("run"),
    "distributions": sorted(d.name for d in importlib.metadata.distributions()),
}))
"""


def build(project: Path, target: str, directory: Path) -> Path:
    """Build one project's ``wheel`` or ``sdist`` with the hatchling that is installed here."""
    # Not by a front end: that would make an environment, and ask an index for hatchling.
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(directory)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (artifact,) = directory.iterdir()
    return artifact


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """Distribution name to its wheel."""
    return {
        name: build(ROOT / "packages" / name, "wheel", tmp_path_factory.mktemp(name))
        for name in DISTRIBUTIONS
    }


class Environment(NamedTuple):
    """A new virtual environment, and a uv that looks at wheels given to it and nothing else."""

    path: Path

    @property
    def python(self) -> Path:
        return self.path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def pip(self, *arguments: str | Path) -> None:
        options = ["--quiet", "--no-config", "--offline", "--cache-dir", str(self.path / "cache")]
        command = [sys.executable, "-m", "uv", "pip", *arguments, "--python", self.python, *options]
        subprocess.run(command, check=True)

    def install(self, *wheels: Path) -> None:
        self.pip("install", "--no-index", *wheels)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.path, capture_output=True, text=True, check=False)

    def probe(self) -> dict:
        output = subprocess.check_output([self.python, "-I", "-c", PROBE], text=True)
        return json.loads(output)


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Environment:
    """Gets one layer after the other."""
    path = tmp_path_factory.mktemp("environment") / "env"
    command = [sys.executable, "-m", "uv", "venv", "--quiet", "--no-config", "--offline"]
    subprocess.run([*command, "--python", sys.executable, str(path)], check=True)
    return Environment(path)


def layers_of(distributions: Iterable[str]) -> set[str]:
    return set().union(*(LAYERS[name] for name in distributions))


def files(wheel: Path) -> set[str]:
    """The contents of a wheel in ``cascade/``."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def metadata(wheel: Path) -> dict[str, list[str]]:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        headers = HeaderParser().parsestr(archive.read(path).decode())
    return {key: headers.get_all(key, []) for key in headers}


def test_every_file_is_shipped_exactly_once(wheels):
    shipped = {name: files(wheel) for name, wheel in wheels.items()}
    modules = {
        path.relative_to(ROOT / "packages" / name / "src").as_posix()
        for name in DISTRIBUTIONS
        for path in (ROOT / "packages" / name / "src").rglob("*.py")
    }
    everything = set().union(*shipped.values())

    assert sum(map(len, shipped.values())) == len(everything)
    assert {name for name in everything if name.endswith(".py")} == modules


@pytest.mark.parametrize(("name", "layers"), LAYERS.items())
def test_a_wheel_holds_its_own_layers_typed_and_only_specs_the_facade(wheels, name, layers):
    shipped = files(wheels[name])
    own = {"cascade/__init__.py", "cascade/__main__.py", "cascade/py.typed"}
    facade = own if name == "cascade-spec" else set()

    assert {f"cascade/{layer}/py.typed" for layer in layers} <= shipped
    assert {path for path in shipped if path.count("/") == 1} == facade
    assert {path.split("/")[1] for path in shipped - facade} == layers


def test_a_wheel_built_from_an_sdist_is_the_same(wheels, tmp_path):
    """cascade-engine stands for all: it ships two folders."""
    sdist = build(ROOT / "packages" / "cascade-engine", "sdist", tmp_path / "sdist")
    # Python 3.11.2 has no filters, and 3.12 warns without one.
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", **safely)
    (source,) = (tmp_path / "source").iterdir()
    wheel = build(source, "wheel", tmp_path / "wheel")

    assert wheel.name == wheels["cascade-engine"].name
    assert wheel.read_bytes() == wheels["cascade-engine"].read_bytes()


def test_layers_install_without_those_above_them(wheels, environment):
    """In the order of time, in one environment: each begins where the one before it ended."""
    for count in (1, 2):
        layers_are_installed(wheels, environment, count)
        the_command_names_the_engine(environment)
        without_words_it_tells_what_is_installed(environment, count)
    layers_are_installed(wheels, environment, 3)
    the_command_names_its_extra(environment)
    the_top_layer_is_installed(wheels, environment)
    without_the_engine_the_rest_works(environment)


def layers_are_installed(wheels, environment, count):
    environment.install(*(wheels[name] for name in DISTRIBUTIONS[:count]))
    found = environment.probe()

    assert found["distributions"] == sorted(DISTRIBUTIONS[:count])
    assert set(found["layers"]) == layers_of(DISTRIBUTIONS[:count])
    assert ("task" in found["public"], "visualize" in found["public"]) == (True, count >= 2)
    assert found["run"] == (
        None if count >= 3 else "cascade.run needs cascade-engine: pip install cascade-engine"
    )


def the_command_names_the_engine(environment):
    done = environment.run(environment.python, "-I", "-m", "cascade", "run", "x:y")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        'cascade: the command needs cascade-engine: pip install "cascade-engine[cli]"\n'
    )
    assert not list(environment.python.parent.glob("cascade*"))


def without_words_it_tells_what_is_installed(environment, count):
    done = environment.run(environment.python, "-I", "-m", "cascade")
    told = [line.split()[:2] for line in done.stdout.splitlines()[: len(DISTRIBUTIONS)]]

    assert (done.returncode, done.stderr) == (0, "")
    assert [name for name, _ in told] == [*DISTRIBUTIONS]
    assert [found != "not" for _, found in told] == [i < count for i in range(len(told))]
    assert 'pip install "cascade-engine[cli]"' in done.stdout

    helped = environment.run(environment.python, "-I", "-c", "import cascade; help(cascade)")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "Task graphs from ordinary functions" in helped.stdout
    assert "class Task(" in helped.stdout


def the_command_names_its_extra(environment):
    (script,) = environment.python.parent.glob("cascade*")
    message = 'cascade: the command needs cyclopts and rich: pip install "cascade-engine[cli]"\n'

    for command in ([script], [environment.python, "-I", "-m", "cascade"]):
        done = environment.run(*command, "run", "x:y")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def the_top_layer_is_installed(wheels, environment):
    environment.pip("install", "--no-index", "--no-deps", *wheels.values())
    assert set(environment.probe()["layers"]) == layers_of(DISTRIBUTIONS)


def without_the_engine_the_rest_works(environment):
    """After a probe, by which bytecode lies in the folders."""
    environment.pip("uninstall", "cascade-engine")
    found = environment.probe()

    assert found["visualize"] is None
    assert "task" in found["public"]
    assert "run" not in found["public"]
    assert found["run"] == "cascade.run needs cascade-engine: pip install cascade-engine"


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_an_index_accepts_the_metadata(wheels, name):
    """By the rules of the index itself, which are those of packaging and trove-classifiers."""
    with zipfile.ZipFile(wheels[name]) as archive:
        (path,) = (path for path in archive.namelist() if path.endswith(".dist-info/METADATA"))
        found = Metadata.from_email(archive.read(path), validate=True)

    assert found.license_expression == "Apache-2.0"
    assert found.description_content_type == "text/markdown"
    assert found.description == (ROOT / "packages" / name / "README.md").read_text("utf-8")
    assert set(found.classifiers) <= trove_classifiers.classifiers
    assert found.summary
    assert found.requires_python == ">=3.11"


def test_the_extra_of_the_command_has_its_dependencies(wheels):
    required = metadata(wheels["cascade-engine"])["Requires-Dist"]
    assert [line for line in required if line.endswith("'cli'")] == [
        "cyclopts<6,>=5; extra == 'cli'",
        "rich<16,>=13; extra == 'cli'",
    ]


def test_the_top_layer_needs_the_engine_and_rich(wheels):
    """rich would come from an index, so it is only seen to be asked for."""
    (version,) = metadata(wheels["cascade-observatory"])["Version"]
    required = metadata(wheels["cascade-observatory"])["Requires-Dist"]

    extra = {
        line.partition(">")[0].partition("<")[0]: line for line in required if "extra ==" in line
    }
    assert sorted(extra) == ["aiomqtt", "matplotlib", "networkx"]
    assert sorted({*required} - {*extra.values()}) == [f"cascade-engine=={version}", "rich<16,>=13"]
