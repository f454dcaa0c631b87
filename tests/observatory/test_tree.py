"""find_modules: names as in import statements, and files left out."""

import pytest

from cascade.observatory.experiments.source_tree import find_modules


@pytest.fixture
def tree(tmp_path):
    for name in (
        "alone.py",
        "pkg/__init__.py",
        "pkg/inner/__init__.py",
        "pkg/inner/leaf.py",
        "space/leaf.py",
        "pkg/tests/test_it.py",
        "test/support.py",
        "site-packages/other.py",
        ".hidden/x.py",
        "pkg/__pycache__/x.py",
        "config-3/tool.py",
        "notes.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(found):
    return [module.name for module in found.modules]


def test_names_are_those_of_import_statements(tree):
    found = find_modules(tree)

    assert names(found) == ["alone", "pkg", "pkg.inner", "pkg.inner.leaf", "space.leaf"]
    assert [m.name for m in found.modules if m.is_package] == ["pkg", "pkg.inner"]
    assert all(module.path.is_file() for module in found.modules)


def test_files_left_out_are_counted(tree):
    assert find_modules(tree).left_out == {"in test folders": 2, "not importable by name": 1}


def test_tests_can_be_included(tree):
    found = find_modules(tree, include_tests=True)

    assert {"pkg.tests.test_it", "test.support"} <= set(names(found))
    assert found.left_out == {"not importable by name": 1}


def test_in_a_package_names_start_with_its_name(tree):
    assert names(find_modules(tree / "pkg")) == ["pkg", "pkg.inner", "pkg.inner.leaf"]


def test_a_package_hides_the_module_of_its_name(tree):
    (tree / "pkg.py").touch()
    (found,) = [m for m in find_modules(tree).modules if m.name == "pkg"]

    assert found.is_package


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        find_modules(tmp_path / "nowhere")
