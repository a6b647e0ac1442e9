"""What a retrain would do, before anybody confirms it: `python -m training.planning`, options in, plan out, as JSON.

A process of its own, because it loads the base's tokenizer and, for this machine, measures two steps with torch; what
drives the jobs stays small.
"""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from quantahr.errors import QuantaHRError
from quantahr.gguf import file_sha256
from quantahr.infra import load_infra
from quantahr.retrain import Options, Plan
from training.config import QloraConfig, dataset_files, load_config
from training.launch.contract import LaunchError, RefusedError, UnreachableError

_PLAN_SECONDS: Final = 900
_START_MINUTES: Final = 8.0
"""A rented machine boots, installs the packages and fetches the base before the first step."""
LEAST_MINUTES: Final = 5


class Request(BaseModel):
    """What is asked of the planning process. `live`: document → hash, as the live model was trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: Path
    root: Path
    state_dir: Path
    options: Options
    live: Mapping[str, str]


def plan_in_a_process(request: Request, *, seconds: float = _PLAN_SECONDS) -> Plan:
    """The plan, made by another process. Raises LaunchError."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "training.planning"],
            input=request.model_dump_json(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RefusedError(
            "plan", "Planning took too long.", "Train fewer documents, or use a faster machine."
        ) from None
    if done.returncode < 0:
        # Ended by a signal, as when everything is being stopped: that says nothing about the plan.
        raise UnreachableError("plan", "Planning was interrupted.", "I start it again.")
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        if "plan" in answer:
            return Plan.model_validate(answer["plan"])
        raise RefusedError("plan", str(answer["error"]), str(answer.get("advice") or "Mend it, then try again."))
    except (ValueError, KeyError, IndexError):
        raise RefusedError(
            "plan", f"Planning ended without an answer (code {done.returncode}).", "Try `quantahr train --dry-run`."
        ) from None


def make(request: Request) -> Plan:
    """The plan, in this process. Raises QuantaHRError."""
    from training.estimate import estimate
    from training.run import make_plan

    options = request.options
    if options.platform == "aws":
        load_infra()  # said now, before anybody confirms
    config = for_options(load_config(request.config, root=request.root), options)
    laid_out = make_plan(config, state_dir=request.state_dir, root=request.root)
    guess = estimate(laid_out, state_dir=request.state_dir)
    price = hourly_price(config)
    hashes = document_hashes(config, request.root)
    minutes = guess.hours * 60 + (_START_MINUTES if options.platform == "aws" else 0)
    cap = cap_minutes(options, price)
    notes = list(laid_out.warnings)
    if minutes > cap:
        notes.append(
            f"The estimate is longer than the cap of {cap} minutes: training would be ended before it is done."
        )
    where = "this machine"
    if options.platform == "aws":
        where = f"AWS, {'spot ' if options.spot else ''}{config.compute.instance_type}"
    return Plan(
        base=laid_out.config.model.base_llm_model,
        documents=len(hashes),
        changed=tuple(sorted(name for name, digest in hashes.items() if request.live.get(name) != digest)),
        removed=tuple(sorted(set(request.live) - set(hashes))),
        hashes=hashes,
        examples=sum(len(batch) for step in laid_out.schedule.steps for batch in step),
        steps=len(laid_out.schedule.steps),
        run=laid_out.run_id,
        where=where,
        minutes=round(minutes, 1),
        price_per_hour=price,
        cap_minutes=cap,
        notes=tuple(notes),
    )


def for_options(config: QloraConfig, options: Options) -> QloraConfig:
    """The configuration with the administrator's choices."""
    chosen: dict[str, object] = {"platform": options.platform, "spot": options.spot}
    if options.instance_type:
        chosen["instance_type"] = options.instance_type
    return config.model_copy(update={"compute": config.compute.model_copy(update=chosen)})


def hourly_price(config: QloraConfig) -> float:
    """US dollars an hour; a spot machine costs at most this. Raises LaunchError for an unknown type of machine."""
    from training.estimate import INSTANCES, read_instances

    if config.compute.platform == "local":
        return 0.0
    table = read_instances()
    name = config.compute.instance_type or ""
    if name not in table:
        raise RefusedError(
            "price",
            f"The price of {name or 'the machine'} is not known, so no cap on money could hold.",
            f"Add it to {INSTANCES}. Known: {', '.join(table)}.",
        )
    return table[name].usd_per_hour


def cap_minutes(options: Options, price: float) -> int:
    """The machine's life in minutes: the cap on time or the one on money, whichever is reached first.

    Raises LaunchError when that leaves too little to train at all.
    """
    cap = options.max_minutes
    if price > 0:
        cap = min(cap, math.floor(options.max_cost / price * 60))
    if cap < LEAST_MINUTES:
        raise RefusedError(
            "cap",
            f"With a cap of USD {options.max_cost:.2f} the machine could run for {cap} minutes only.",
            "Raise the cap with `max-cost`, or choose a cheaper machine.",
        )
    return cap


def document_hashes(config: QloraConfig, root: Path) -> dict[str, str]:
    """Document → first 12 hex digits of its file's sha256."""
    files = [path for dataset in config.datasets if dataset.type == "docx" for path in dataset_files(dataset, root)]
    return {path.name: file_sha256(path)[:12] for path in files}


def main() -> None:
    """Read a Request, write {"plan": …} or {"error": …, "advice": …} as the last line."""
    answer: dict[str, object]
    try:
        plan = make(Request.model_validate_json(sys.stdin.read()))
        answer = {"plan": plan.model_dump(mode="json")}
    except LaunchError as error:
        answer = {"error": error.text, "advice": error.advice}
    except QuantaHRError as error:
        answer = {"error": str(error)}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
