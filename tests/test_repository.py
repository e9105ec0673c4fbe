"""What no tracked file may hold: addresses of a package index, paths of one machine, local version labels, pickles, secrets, open doors."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BINARY = {".png", ".jpg", ".parquet", ".onnx", ".npz", ".sqlite", ".gif", ".ico"}
LONGEST_FILE, LONGEST_FUNCTION = 450, 60


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("no git checkout here, so nobody can say which files are the project's: git clone")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@cache
def texts() -> dict[str, str]:
    return {
        str(p.relative_to(ROOT)): p.read_text() for p in tracked() if p.suffix not in BINARY and p.resolve() != Path(__file__).resolve()
    }


FORBIDDEN = {
    "a local version label": r"\+(cpu|cu\d+)\b",
    "an address of a package index": (
        r"(?i)(--(extra-)?index-url|--find-links|\b(extra-)?index-url\s*="
        r"|pypi\.org/simple|download\.pytorch\.org|files\.pythonhosted\.org)"
    ),
    "a path of one machine": r"(?<![\w./$}{*-])/(work|root|Users)/[\w.]|(?<![\w./$}{*-])/home/(?!runner\b|dagster\b)\w+/",
    "a key of a real account": r"\b(PK|AK)[A-Z0-9]{18}\b|AKIA[A-Z0-9]{16}|-----BEGIN [A-Z ]*PRIVATE KEY",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{name}:{text[: hit.start()].count(chr(10)) + 1}: {hit.group()}"
        for name, text in texts().items()
        for hit in pattern.finditer(text)
    ]
    assert found == []


PLANTED = {
    "a local version label": ("torch==2.13.0+cpu", "numpy+cu121 "),
    "an address of a package index": ("--index-url https://x", "https://pypi.org/simple", "extra-index-url = x"),
    "a path of one machine": ('"/work/main/x"', "cd /root/.cache", "(/home/ann/data)"),
    "a key of a real account": ("PKABCDEFGHIJKLMNOPQR", "-----BEGIN RSA PRIVATE KEY"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_each_pattern_finds_what_it_forbids(what: str) -> None:
    assert all(re.search(FORBIDDEN[what], planted) for planted in PLANTED[what])


@cache
def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(text) for name, text in texts().items() if name.endswith(".py")}


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []


def test_nothing_is_pickled() -> None:
    """Pickles run code when they are read, and a bundle, a state or a lake file may come from elsewhere."""
    wrong = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
    found = [(name, module) for name, tree in trees().items() for node in ast.walk(tree) for module in imported(node)]
    assert [pair for pair in found if pair[1].split(".")[0] in wrong] == []
    calls = [
        (name, node.lineno)
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword)
        and node.arg == "allow_pickle"
        and not (isinstance(node.value, ast.Constant) and node.value.value is False)
    ]
    assert calls == []


def test_no_exception_is_swallowed_whole() -> None:
    """`except:` and `except Exception: pass` hide what an operator must know."""
    found = []
    for name, tree in trees().items():
        if not name.startswith(("trading_platform/", "live_runner/")):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
                raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
                kept = any(isinstance(inner, ast.Name) and inner.id == node.name for inner in ast.walk(node))  # handed to somebody
                if broad and not raises and not kept:
                    found.append(f"{name}:{node.lineno}")
    assert found == []


def test_python_code_listens_on_loopback_only() -> None:
    """0.0.0.0 stands in files of containers alone, where the published ports are bound to loopback."""
    found = [
        name for name, text in texts().items() if name.endswith((".py", ".yaml", ".toml")) and re.search(r"[\"'=]0\.0\.0\.0|\"::\"", text)
    ]
    assert [name for name in found if not name.startswith(("deploy/", "tests/"))] == []
    published = re.findall(r"^\s+- \"([^\"]+):\d+\"$", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE)
    assert published and all(address.startswith("127.0.0.1:") for address in published)


def test_rooms_stay_small() -> None:
    """Aim at 400 lines a file and 40 a function (the house's rules); far beyond that the house lacks a room."""
    long_files = {
        name: len(text.splitlines()) for name, text in texts().items() if name.endswith(".py") and text.count("\n") > LONGEST_FILE
    }
    assert long_files == {}
    functions = {
        f"{name}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert {name: lines for name, lines in functions.items() if lines > LONGEST_FUNCTION} == {}


def test_every_skip_says_why() -> None:
    """A skip without a reason cannot be seen to be wrong."""
    found = []
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "pytest.skip",
                "pytest.mark.skip",
                "pytest.mark.skipif",
                "pytest.mark.xfail",
            ):
                texts_given = [*node.args, *(word.value for word in node.keywords if word.arg == "reason")]
                if not any(
                    isinstance(inner, (ast.JoinedStr, ast.Constant)) and not isinstance(getattr(inner, "value", ""), bool)
                    for inner in texts_given
                ):
                    found.append(f"{name}:{node.lineno}")
    assert found == []
