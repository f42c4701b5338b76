"""The sources that hold llama.cpp's vocabularies and chat templates."""

import subprocess
import sys
import tarfile
from pathlib import Path

SDIST = "llama-cpp-python==0.3.36"


def download_sources(folder: Path) -> Path:
    """Fetch the source distribution (77 MB), unpack `models` and return the folder above it."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*command, SDIST, "-q", "-d", str(folder)], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        wanted = [m for m in tar.getmembers() if "/vendor/llama.cpp/models/" in m.name]
        tar.extractall(folder, wanted, filter="data")
    (found,) = folder.glob("*/vendor/llama.cpp")
    return found
