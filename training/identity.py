"""What a run is: the hash of what it learns from, how, and on which base.

The same wherever it is worked out: an administrator sees it in the plan, the training machine files its checkpoints
under it, and a later attempt finds them there. So it looks at the bytes of the files, and neither at where they lie nor
at anything that is computed from them.
"""

import hashlib
from pathlib import Path

from quantahr.gguf import PACKAGED_MODEL, file_sha256, packaged_gguf
from training.config import QloraConfig, dataset_files


def run_id(config: QloraConfig, *, root: Path = Path()) -> str:
    """12 hex digits. Raises ModelError when the packaged base is not installed."""
    parts = [config.fingerprint(), base_identity(config)]
    for dataset in config.datasets:
        files = sorted(f"{path.name} {file_sha256(path)}" for path in dataset_files(dataset, root))
        parts.append("\n".join(files))
    return hashlib.sha256("\n\n".join(parts).encode()).hexdigest()[:12]


def base_identity(config: QloraConfig) -> str:
    """What an adapter belongs to: the model's name, and where its weights are on this machine, their hash."""
    name = config.model.base_llm_model
    path = packaged_gguf() if name == PACKAGED_MODEL else Path(name)
    weights = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    label = path.name if Path(name).exists() else name
    if not weights:
        return label
    digest = hashlib.sha256("".join(file_sha256(file) for file in weights).encode()).hexdigest()
    return f"{label}@{digest[:16]}"
