"""All model versions and the one that is active.

Versions are immutable and written manifest last, so a version is whole or not there. The pointer is moved only after
the version that it names has been checked, with a conditional write: of two administrators who act at the same moment,
one succeeds and the other is told. An installation that has never activated anything serves the shipped adapter.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from quantahr.gguf import gguf_source
from quantahr.gguf_header import Header, base_sha256, read_header
from quantahr.registry.pointer import BASE, Change, Pointer, load_pointer
from quantahr.registry.storage import RegistryError, Storage, open_storage
from quantahr.registry.version import (
    GGUF,
    MANIFEST,
    PEFT,
    Judgement,
    Version,
    check_base,
    describe,
    load_version,
    verify,
)
from quantahr.settings import Settings

POINTER = "pointer.json"
SHIPPED = Path("data/models/demo")
"""The adapter that comes with the project, for the packaged model."""

_TRIES = 5


class Registry:
    """The versions in one storage. `shipped` is a run folder that serves while nothing was ever activated."""

    def __init__(
        self, storage: Storage, *, shipped: Path | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._storage = storage
        self._shipped_folder = shipped
        self._clock = clock

    @classmethod
    def open(cls, settings: Settings) -> "Registry":
        """The configured registry: `registry` of the settings, or a folder in the state folder."""
        address = settings.registry or str(settings.state_dir / "registry")
        storage = open_storage(address, settings.state_dir / "registry-cache")
        # It was trained for the packaged model; an operator's own model is another base.
        return cls(storage, shipped=None if settings.model.path else find_shipped())

    # Versions

    def add(
        self,
        source: Path,
        *,
        base: Header | None = None,
        parent: str | None = None,
        metrics: Mapping[str, float] | None = None,
        judgement: Judgement | None = None,
    ) -> Version:
        """Register the adapter in `source` (a run folder or a GGUF file); adding it again mends its files.

        `base`: the model that is served, if it is a GGUF; an adapter that does not belong to it is refused.
        Raises RegistryError and ModelError, and then nothing was registered.
        """
        version, paths = describe(source, created=self._now())
        if base is not None:
            check_base(version, paths.get(GGUF), base)
            version = replace(version, base_sha256=version.base_sha256 or base_sha256(base))
        known = self._read(version.id)
        version = replace(
            version,
            created=(known or version).created,
            parent=(known.parent if known else None) or parent or version.parent,
            metrics=metrics or (known or version).metrics,
            judgement=judgement or (known.judgement if known else None),
        )
        for name, path in paths.items():
            self._storage.upload(path, _key(version.id, name))
        self._write_manifest(version)
        return version

    def record_judgement(self, identifier: str, metrics: Mapping[str, float], judgement: Judgement) -> Version:
        """Keep what the gate said of a version. Raises RegistryError."""
        version = replace(self.get(identifier), metrics=dict(metrics), judgement=judgement)
        if self._is_shipped(version.id):
            raise RegistryError("The shipped adapter is not judged here. Add it with `quantahr models add` first.")
        self._write_manifest(version)
        return version

    def versions(self) -> list[Version]:
        """All versions, oldest first; the shipped one is among them. A damaged manifest raises RegistryError."""
        stored = [self._read(name) for name in self._storage.folders("versions/")]
        found = {version.id: version for version in stored if version is not None}
        shipped = self.shipped()
        if shipped:
            found.setdefault(shipped.id, shipped)
        return sorted(found.values(), key=lambda version: (version.created, version.id))

    def get(self, identifier: str) -> Version:
        """The version with this id or the beginning of it. Raises RegistryError."""
        whole = self._read(identifier) if len(identifier) == 12 else None
        if whole:
            return whole
        found = [version for version in self.versions() if identifier and version.id.startswith(identifier)]
        if len(found) != 1:
            which = "is ambiguous" if found else "is not in the registry"
            raise RegistryError(f"The version {identifier} {which}. `quantahr models list` shows all of them.")
        return found[0]

    def folder(self, version: Version) -> Path:
        """The folder with the version's files on this disk, each checked against the manifest. Raises RegistryError."""
        if self._is_shipped(version.id) and self._shipped_folder:
            verify(version, {name: self._shipped_folder / name for name in version.files})
            return self._shipped_folder
        paths = {name: self._storage.local(_key(version.id, name), file.sha256) for name, file in version.files.items()}
        verify(version, paths)
        inside = GGUF if GGUF in paths else next(iter(paths))
        return paths[inside].parent if inside == GGUF else paths[inside].parent.parent

    def adapter(self, version: Version, engine: str) -> Path:
        """What an engine loads: the GGUF file for llamacpp, the PEFT folder for others. Raises RegistryError."""
        folder = self.folder(version)
        if engine == "llamacpp":
            if GGUF not in version.files:
                raise RegistryError(f"Version {version.id} has no {GGUF}, which llamacpp needs. Export it again.")
            return folder / GGUF
        if not any(name.startswith(f"{PEFT}/") for name in version.files):
            raise RegistryError(f"Version {version.id} has no PEFT adapter, which {engine} needs. Add its run folder.")
        return folder / (PEFT if self._is_shipped(version.id) else _peft_folder(version.id))

    def shipped(self) -> Version | None:
        """The version that comes with the project, if it does. Raises RegistryError and ModelError if it is damaged."""
        if self._shipped_folder is None:
            return None
        version, _ = describe(self._shipped_folder, created="")
        return version

    # The pointer

    def pointer(self) -> Pointer:
        """What is active, with its history. Raises RegistryError."""
        return self._pointer()[0]

    def active(self) -> Version | None:
        """The version to serve; None for the base model alone. Raises RegistryError when the pointer is broken."""
        return self.resolve(self.pointer().active)

    def resolve(self, active: str | None) -> Version | None:
        """The version that a pointer's `active` stands for: None (nothing activated yet) is the shipped one."""
        if active is None:
            return self.shipped()
        return None if active == BASE else self.get(active)

    def activate(
        self, identifier: str, *, actor: str, reason: str = "", override: bool = False, base: Header | None = None
    ) -> Pointer:
        """Make a version active, or BASE. Raises RegistryError, and then nothing has changed.

        A version that the gate did not let pass needs `override` and a `reason`. `base`: as for `add`.
        """
        if identifier == BASE:
            return self._move(lambda _: BASE, actor, reason, override=False)
        version = self.get(identifier)
        self._check(version, base)
        passed = self._is_shipped(version.id) or (version.judgement is not None and version.judgement.passed)
        if not passed and not (override and reason.strip()):
            why = "was not let through by the gate" if version.judgement else "has not been judged by the gate"
            raise RegistryError(
                f"Version {version.id} {why}. Judge it with `quantahr eval --adapter {version.id}`, or activate it all "
                'the same with --override "why".'
            )
        return self._move(lambda _: version.id, actor, reason, override=not passed)

    def rollback(self, *, actor: str, reason: str = "", base: Header | None = None) -> Pointer:
        """Make active what was so before. Raises RegistryError, and then nothing has changed."""
        target = self.resolve(self.pointer().before())
        if target:
            self._check(target, base)
        return self._move(lambda pointer: pointer.before(), actor, reason, override=False, rollback=True)

    def _check(self, version: Version, base: Header | None) -> None:
        folder = self.folder(version)
        if base is not None:
            check_base(version, folder / GGUF if GGUF in version.files else None, base)

    def _move(
        self,
        choose: Callable[[Pointer], str | None],
        actor: str,
        reason: str,
        *,
        override: bool,
        rollback: bool = False,
    ) -> Pointer:
        pointer, mark = self._pointer()
        active = choose(pointer)
        moved = pointer.moved(Change(pointer.serial + 1, active, self._now(), actor, reason, override, rollback))
        if not self._storage.replace(POINTER, moved.dump(), mark):
            raise RegistryError(
                "Somebody else changed the active version at this moment. Look with `quantahr models list`, then "
                "try again."
            )
        return moved

    def _pointer(self) -> tuple[Pointer, str | None]:
        found = self._storage.read(POINTER)
        return (load_pointer(found[0]), found[1]) if found else (Pointer(), None)

    def _read(self, identifier: str) -> Version | None:
        key = _key(identifier, MANIFEST)
        found = self._storage.read(key)
        return load_version(found[0], key) if found else None

    def _write_manifest(self, version: Version) -> None:
        key = _key(version.id, MANIFEST)
        for _ in range(_TRIES):
            found = self._storage.read(key)
            if self._storage.replace(key, version.dump(), found[1] if found else None):
                return
        raise RegistryError(f"Version {version.id} is being changed by somebody else. Try again.")

    def _is_shipped(self, identifier: str) -> bool:
        shipped = self.shipped()
        return shipped is not None and shipped.id == identifier and self._read(identifier) is None

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds")


def find_shipped() -> Path | None:
    """The shipped adapter's folder: under the current folder, or beside the code in a checkout."""
    for root in (Path(), Path(__file__).parents[2]):
        if (root / SHIPPED / GGUF).is_file():
            return root / SHIPPED
    return None


def served_base(settings: Settings) -> Header | None:
    """The header of the GGUF whose weights are served; None where they come from elsewhere. Raises ModelError."""
    model = settings.model
    if model.engine == "tgi":
        return None
    file = gguf_source(model.path)
    if file is None and model.path and model.engine == "llamacpp":
        file = Path(model.path).expanduser()  # whatever its name ends in
    return read_header(file) if file else None


def _peft_folder(identifier: str) -> str:
    # The name under which a server (vLLM) loads it: it must differ from version to version.
    return f"quantahr-{identifier}"


def _key(identifier: str, name: str) -> str:
    folder, _, rest = name.partition("/")
    inside = f"{_peft_folder(identifier)}/{rest}" if folder == PEFT and rest else name
    return f"versions/{identifier}/{inside}"
