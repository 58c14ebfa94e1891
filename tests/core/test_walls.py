"""The walls between the rooms, as the design draws them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("sam3_core", "backend", "cvat_nuclio", "sam3_prelabel", "tools", "benchmarks")
MAKERS = {"tools", "benchmarks"}  # nobody imports them, and they may use tensors
PLATFORMS = {"label_studio_sdk", "label_studio_ml", "flask", "gunicorn", "cvat_sdk", "nuclio_sdk"}
TENSORS = {"torch", "torchvision", "transformers", "safetensors"}

MAY_IMPORT = {
    "sam3_core": {"sam3_core"},
    "backend": {"backend", "sam3_core"},
    "cvat_nuclio": {"cvat_nuclio", "sam3_core"},
    "sam3_prelabel": set(ROOMS) - MAKERS,
    "tools": set(ROOMS) - {"benchmarks"},
    "benchmarks": set(ROOMS),
}


def _modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def _imports(module: Path, source: str) -> Iterator[str]:
    """Dotted names of all that a module imports, anywhere in it; relative ones by its path from the root."""
    package = module.parent.parts
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = [*above, *([node.module] if node.module else [])]
            yield from (".".join([*base, name.name]) for name in node.names)


def _crossings(modules: list[Path], forbidden: set[str]) -> list[str]:
    return [
        f"{module.relative_to(ROOT)} imports {name}"
        for module in modules
        for name in _imports(module.relative_to(ROOT), module.read_text(encoding="utf-8"))
        if name.split(".")[0] in forbidden
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_the_rooms_they_may(room: str) -> None:
    assert _crossings(_modules(room), {*ROOMS, "tests"} - MAY_IMPORT[room]) == []


def test_the_scan_sees_imports_of_every_kind() -> None:
    source = "import a.b, c as d\ndef f():\n    from e.f import g\nfrom . import h\nfrom ..i import j\n"
    assert set(_imports(Path("room/inner/module.py"), source)) == {"a.b", "c", "e.f.g", "room.inner.h", "room.i.j"}
    assert set(_imports(Path("room/inner/__init__.py"), "from .k import l")) == {"room.inner.k.l"}
    assert all(len(_modules(room)) > 1 for room in ROOMS)


def test_tensors_stay_in_the_engine() -> None:
    engine = ROOT / "sam3_core" / "engine"
    outside = [module for room in set(ROOMS) - MAKERS for module in _modules(room) if engine not in module.parents]
    assert _crossings(outside, TENSORS) == []


def test_the_core_knows_no_platform() -> None:
    assert _crossings(_modules("sam3_core"), PLATFORMS) == []
    assert _crossings(_modules("cvat_nuclio"), PLATFORMS - {"cvat_sdk", "nuclio_sdk"}) == []
    assert _crossings(_modules("backend"), {"cvat_sdk", "nuclio_sdk"}) == []


def test_all_but_the_engine_imports_without_torch() -> None:
    """In a process of its own, where torch and its friends cannot be imported, as in the thin CVAT image."""
    engine = ROOT / "sam3_core" / "engine"
    names = [
        ".".join(module.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for module in (*_modules("sam3_core"), ROOT / "cvat_nuclio" / "masks.py")
        if engine not in module.parents
    ]
    assert {"sam3_core", "sam3_core.remote", "sam3_core.encodings.polygons", "sam3_core.logits"} <= set(names)
    script = f"""
import importlib, sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {TENSORS | PLATFORMS!r}:
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Wall())
for name in {names!r}:
    importlib.import_module(name)
try:
    import torch
except ImportError:
    print("walled")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "walled\n"), done.stderr
