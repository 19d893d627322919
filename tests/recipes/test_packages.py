"""Fetching of packages for the recipes, with nothing downloaded."""

import base64
import hashlib
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
from scripts import script_module


@pytest.fixture(scope="module")
def packages() -> ModuleType:
    return script_module("recipes/packages.py")


def test_a_package_that_is_not_the_one_is_refused(packages: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "scope-it-1.tgz").write_bytes(b"something else")
    with pytest.raises(SystemExit, match=r"scope-it-1\.tgz is not the file"):
        packages.fetch_npm("@scope/it@1", "AAAA", tmp_path)
    (tmp_path / "it_1_all.deb").write_bytes(b"something else")
    with pytest.raises(SystemExit, match=hashlib.sha256(b"something else").hexdigest()):
        packages.fetch_debian("it=1", "0" * 64, tmp_path)


def test_a_package_that_was_unpacked_in_part_is_unpacked_again(
    packages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tarball = tmp_path / "it-1.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        for name in ("a", "b"):
            (tmp_path / name).write_text(name)
            archive.add(tmp_path / name, f"package/{name}")
    sha512 = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()

    def stopped(archive: tarfile.TarFile, to: Path, **_: object) -> None:
        archive.extract("package/a", to, filter="data")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extractall", stopped)
        with pytest.raises(KeyboardInterrupt):
            packages.fetch_npm("it@1", sha512, tmp_path)
    assert sorted(path.name for path in packages.fetch_npm("it@1", sha512, tmp_path).iterdir()) == ["a", "b"]
    assert not list(tmp_path.glob("*.partial"))
