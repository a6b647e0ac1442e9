"""The engine that the settings ask for, loaded. Each engine's libraries are imported only when it is the one."""

from pathlib import Path

from quantahr.errors import ModelError
from quantahr.settings import Secrets, Settings
from worker.engines.base import Engine


def open_engine(
    settings: Settings, secrets: Secrets, *, adapter: str | None = None, rest_seconds: float = 0.0
) -> Engine:
    """Load the engine of `settings.model`.

    `adapter` is the one to serve instead of `model.adapter` (what the registry says is active): a GGUF LoRA for
    llamacpp, a PEFT folder for transformers, a name or path that the server knows for tgi. `rest_seconds` is for a
    swap under way: llamacpp leaves the cores that long to the engine that answers, after each step of loading.
    Raises ModelError.
    """
    model = settings.model
    wanted = adapter or model.adapter
    if model.engine == "tgi":
        from worker.engines.tgi import TgiEngine

        if not model.url:
            raise ModelError("The tgi engine needs the address of its server. Set `model.url`, e.g. http://tgi:8080.")
        token = secrets.tgi_token.get_secret_value() if secrets.tgi_token else None
        return TgiEngine(model.url, adapter=wanted, token=token, slots=model.slots)
    if model.engine == "transformers":
        from worker.engines.transformers import TransformersEngine

        return TransformersEngine(
            model.path,
            state_dir=settings.state_dir,
            adapter=Path(wanted) if wanted else None,
            context_tokens=model.context_tokens,
            load_in_4bit=model.load_in_4bit,
            threads=model.threads,
        )
    from worker.engines.llamacpp import LlamaCppEngine
    from worker.model_files import find_model

    return LlamaCppEngine(
        find_model(model.path, settings.state_dir),
        adapter=Path(wanted) if wanted else None,
        slots=model.slots,
        context_tokens=model.context_tokens,
        threads=model.threads,
        rest_seconds=rest_seconds,
    )
