"""The client as a distribution: what its wheel holds, and that it needs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

CLIENT = Path(__file__).parents[2] / "deploy" / "client"
OTHERS = {"celery", "kombu", "opentelemetry", "typing_extensions"}
"""What may be imported besides the standard library: two by the extra, and two by whoever has them."""
TRY = """
import sys
from vmrelay_client import Client, Rejected
from vmrelay_client.fake import FakeClient

for make in (lambda: Client.from_celery(None), lambda: Client.from_url("redis://localhost")):
    try:
        make()
    except ModuleNotFoundError as missing:
        assert "vmrelay-client[celery]" in str(missing), missing
    else:
        raise AssertionError("made without Celery")
Client.from_url("https://vmrelay.example", token="t")
fake = FakeClient()
fake.refuse("web-2", "same-host")
assert fake.wait(fake.migrate("web-1", "beta").id, 60).state == "succeeded"
try:
    fake.wait(fake.migrate("web-2", "beta").id, 60)
except Rejected as refused:
    assert refused.code == "same-host"
print(sorted({name.partition(".")[0] for name in sys.modules} & {"worker", "tasks", "celery", "redis", "pydantic"}))
"""


def test_the_wheel_alone_is_enough(tmp_path: Path) -> None:
    """Built offline it holds one package, types and licence; in a bare environment it works, or names its extra."""
    wheel = Path(next(WheelBuilder(str(CLIENT)).build(directory=str(tmp_path), versions=["standard"])))
    with zipfile.ZipFile(wheel) as held:
        names = held.namelist()
        metadata = held.read(next(name for name in names if name.endswith("/METADATA"))).decode()
        bare = tmp_path / "bare"
        venv.create(bare, with_pip=False)
        held.extractall(next(bare.glob("lib/python*/site-packages")))
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"vmrelay_client"}
    assert "vmrelay_client/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    needed = [line for line in metadata.splitlines() if line.startswith(("Requires-Dist", "Provides-Extra"))]
    assert needed == [
        "Provides-Extra: celery",
        "Requires-Dist: celery[redis]>=5.3; extra == 'celery'",
        "Provides-Extra: http",
    ]
    told = subprocess.run(
        [bare / "bin" / "python", "-I", "-W", "error", "-c", TRY],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (told.stdout, told.stderr) == ("[]\n", "")


def test_nothing_of_the_relay_is_imported() -> None:
    """Applications have packages called worker and tasks themselves; the client imports neither, nor anything else."""
    allowed = OTHERS | set(sys.stdlib_module_names) | {"vmrelay_client"}
    found: set[str] = set()
    for file in (CLIENT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(), str(file), feature_version=(3, 10))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, file
                found.add(str(node.module).partition(".")[0])
    assert found <= allowed, found - allowed


def test_versions_go_together() -> None:
    """The client's version is the relay's: one changelog tells of both."""
    theirs, ours = (tomllib.loads((CLIENT / up / "pyproject.toml").read_text()) for up in (".", "../.."))
    assert theirs["project"]["version"] == ours["project"]["version"]
    assert theirs["project"]["requires-python"] == ">=3.10"
    assert theirs["tool"]["ruff"]["target-version"] == "py310"
