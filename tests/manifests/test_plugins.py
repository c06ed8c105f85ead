"""Entry points of other packages: found by name, imported late, refused in one line that says whose they are."""

from pathlib import Path

import pytest

from hs_data.manifests.errors import ConfigError
from hs_data.manifests.plugins import find_plugins

GROUP = "hs_data.sources"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lay out what installing a package leaves: its entry points, and a module that they name."""

    def install(package: str, points: str, module: str = "") -> None:
        folder = tmp_path / package
        info = folder / f"{package}-1.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n")
        (folder / f"{package}_module.py").write_text(module)
        monkeypatch.syspath_prepend(str(folder))

    return install


def test_what_packages_bring_is_found_by_name_and_imported_only_when_it_is_loaded(install):
    install("late", "fresh = late_module:THING\nbroken = late_module:OTHER", "THING = 'x'\nraise_if_loaded = True\n")
    found = find_plugins(GROUP, {"folder"})
    assert {name: found[name].package for name in ("broken", "fresh")} == dict.fromkeys(("broken", "fresh"), "late 1.5")
    assert found["fresh"].load() == "x"


@pytest.mark.parametrize(
    ("value", "module", "said"),
    [
        ("bare_module:NAME", "", "AttributeError"),
        ("gone_nowhere:NAME", "", "ModuleNotFoundError"),
        ("loud_module:NAME", "raise RuntimeError('two\\nlines')", r"RuntimeError: two lines\)"),
        ("typo_module:NAME", "def (", "SyntaxError"),
    ],
)
def test_a_broken_one_is_one_line_that_names_its_package(install, value: str, module: str, said: str):
    package = value[:4]
    install(package, f"mine = {value}", module)
    plugin = find_plugins(GROUP, ())["mine"]
    with pytest.raises(
        ConfigError, match=rf"^package {package} 1\.5: .*{GROUP}: mine = {value} .*{said}.*; .*uninst"
    ) as caught:
        plugin.load()
    assert "\n" not in str(caught.value)


def test_names_of_ours_and_of_another_package_are_refused(install):
    install("thief", "folder = thief_module:X")
    with pytest.raises(ConfigError, match=r"package thief 1\.5: .* takes a name of hs-data's own"):
        find_plugins(GROUP, {"folder"})
    install("second", "folder = second_module:X")
    with pytest.raises(ConfigError, match=r"package thief 1\.5: .* takes the name that second 1\.5 has taken"):
        find_plugins(GROUP, {"hdtf"})


def test_a_package_that_lies_on_the_path_twice_is_one(install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install("twin", "mine = twin_module:X", "X = 7")
    (tmp_path / "again").symlink_to(tmp_path / "twin")
    monkeypatch.syspath_prepend(str(tmp_path / "again"))
    assert find_plugins(GROUP, ())["mine"].load() == 7
