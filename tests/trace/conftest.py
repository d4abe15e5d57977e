"""Traces of small runs, and ways to spoil them."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import pytest
import safetensors.numpy

from parity.settings import Settings, Side
from parity.trace import Manifest, read_trace, record
from parity.trace.manifest import MANIFEST
from tests.trace.fakes import Wide

STEPS = 300
"""Two chunks: of 250 states and of 50."""


def settings(**changes) -> Settings:
    return Settings(**{"steps": STEPS, "epochs": 100, "dtype": "float64"} | changes)


def record_wide(folder, dataset, side=None, *, name="wide", every=1, nudge=None, weights=None, **changes):
    """Record a fake and read the trace back."""
    side = Side(name=name, implementation=side or Wide())
    record(side, dataset, settings(**changes), folder, every=every, nudge=nudge, weights=weights)
    return read_trace(folder)


@pytest.fixture(scope="session")
def original(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces") / "original"
    record_wide(folder, small)
    return folder


@pytest.fixture
def copied(original, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(original, tmp_path / "copied")


def rewrite_manifest(folder, **changes):
    """Change the manifest, with the SHA-256 that belongs to what it then says."""
    (folder / MANIFEST).write_text(replace(Manifest.read(folder), **changes).to_json())


def rewrite_chunk(folder, number, change):
    """Change a chunk's arrays, with the SHA-256 that belongs to them."""
    manifest = Manifest.read(folder)
    entry = manifest.chunks[number]
    arrays = safetensors.numpy.load_file(folder / entry.file)
    change(arrays)
    content = safetensors.numpy.save(arrays)
    (folder / entry.file).write_bytes(content)
    chunks = list(manifest.chunks)
    chunks[number] = replace(entry, sha256=hashlib.sha256(content).hexdigest())
    rewrite_manifest(folder, chunks=tuple(chunks))


def edit_json(folder, change):
    """Change the manifest as an editor would, its SHA-256 left as it was."""
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def sign_json(folder, change):
    """Change the manifest's text, and give it the SHA-256 of what it then says."""

    def changed(content):
        change(content)
        content.pop("sha256")
        content["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    edit_json(folder, changed)
