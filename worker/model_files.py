"""Which file the engine serves: the one that is configured, or the packaged model made fast.

The packaged model is stored as Q4_1, which llama.cpp reads prompts with at half the speed of Q8_0, and prompts are
what an answer waits for. So it is rewritten once as Q8_0: that keeps its weights (eight bits hold what four did), takes
seconds, and needs no llama.cpp tool. benchmarks/RESULTS.md has the measurement behind the choice.
"""

import contextlib
import os
from pathlib import Path
from typing import Any

from quantahr.errors import ModelError
from quantahr.gguf import PACKAGED_MODEL, packaged_gguf
from quantahr.gguf_header import BASE_KEY, cached_sha256, check_model, read_header

SERVED_TYPE = "Q8_0"
"""The ggml type in which the packaged model is served."""


def find_model(setting: str | None, state_dir: Path) -> Path:
    """The GGUF file to serve, checked to be a whole language model.

    `setting` is `model.path`: a GGUF file, or empty for the packaged model, which is then rewritten into
    `state_dir`/models on first use (seconds), unless `prepare_packaged` has. Raises ModelError that names the file and
    what to do.
    """
    if setting and setting != PACKAGED_MODEL:
        path = Path(setting).expanduser()
        if path.is_dir():
            raise ModelError(
                f"{path} is a folder; the llamacpp engine serves one .gguf file. Name the file in `model.path`, "
                "or set `model.engine` to transformers."
            )
        check_model(read_header(path))
        return path
    source = packaged_gguf()
    source_hash = cached_sha256(source, state_dir)
    name = _served_name(source, source_hash)
    prepared = source.with_name(name)
    target = prepared if prepared.is_file() else state_dir / "models" / name
    if not target.is_file():
        requantize(source, target, SERVED_TYPE, source_hash)
    check_model(read_header(target))
    return target


def prepare_packaged() -> Path:
    """Rewrite the packaged model beside itself, for good: an image's build calls this, so that no start needs to.

    Raises ModelError when it is not installed or its folder cannot be written.
    """
    source = packaged_gguf()
    source_hash = cached_sha256(source)
    target = source.with_name(_served_name(source, source_hash))
    requantize(source, target, SERVED_TYPE, source_hash)
    return target


def _served_name(source: Path, source_hash: str) -> str:
    return f"{source.name.split('.')[0]}.{SERVED_TYPE}-{source_hash[:12]}.gguf"


def requantize(source: Path, target: Path, kind: str, source_hash: str) -> None:
    """Write the weights of `source` to `target` as ggml type `kind` (F16, Q8_0, Q4_0, Q4_1).

    Tensors in float32 (norms) or of that type already stay as they are. One tensor at a time is in memory. The same
    source gives the same bytes; the file appears under its name only when complete, and names `source_hash` as the
    model it was made from. Raises ModelError when the folder cannot be written.
    """
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType, dequantize, quantize
    from gguf.constants import GGML_QUANT_SIZES

    wanted = GGMLQuantizationType[kind]
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        reader = GGUFReader(source)
        writer = GGUFWriter(partial, reader.fields["general.architecture"].contents())
        _copy_metadata(reader, writer)
        writer.add_file_type(LlamaFileType[f"MOSTLY_{kind}"])
        writer.add_string(BASE_KEY, source_hash)
        kept = (GGMLQuantizationType.F32, wanted)
        block, block_bytes = GGML_QUANT_SIZES[wanted]
        for tensor in reader.tensors:
            shape = [int(length) for length in reversed(tensor.shape)]
            elements = int(tensor.n_elements)
            as_is = tensor.tensor_type in kept
            size = int(tensor.n_bytes) if as_is else elements // block * block_bytes
            stored = tensor.tensor_type if as_is else wanted
            writer.add_tensor_info(tensor.name, shape, _float32(), size, raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in reader.tensors:
            data = tensor.data
            if tensor.tensor_type not in kept:
                data = quantize(dequantize(data, tensor.tensor_type), wanted)
            writer.write_tensor_data(data)
        writer.close()
        partial.replace(target)
    except OSError as error:
        raise ModelError(
            f"The model cannot be written to {target.parent}: {error.strerror}. Free some space or mend the rights "
            "there, or name another `state_dir`."
        ) from error
    finally:
        with contextlib.suppress(OSError):  # there is nothing to remove where nothing could be written
            partial.unlink()


def _float32() -> Any:
    import numpy

    return numpy.dtype(numpy.float32)


def _copy_metadata(reader: Any, writer: Any) -> None:
    from gguf import GGUFValueType

    rewritten = {"general.architecture", "general.file_type", BASE_KEY}
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in rewritten:
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, inner)
