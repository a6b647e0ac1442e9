"""Model versions: registered, judged, active, and back again.

registry/
  pointer.json                       which version is active, with the history; changed in one write
  versions/1a2b3c4d5e6f/
    adapter.gguf                     for llama.cpp
    quantahr-1a2b3c4d5e6f/           for PEFT (transformers, vLLM)
    manifest.json                    hashes, base, run, metrics, the gate's judgement; written last
"""

from quantahr.registry.pointer import BASE, Change, Pointer
from quantahr.registry.registry import Registry, served_base
from quantahr.registry.storage import RegistryError
from quantahr.registry.version import Judgement, Version
from quantahr.registry.workers import WorkerState

__all__ = [
    "BASE",
    "Change",
    "Judgement",
    "Pointer",
    "Registry",
    "RegistryError",
    "Version",
    "WorkerState",
    "served_base",
]
