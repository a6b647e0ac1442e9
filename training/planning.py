"""What a retrain would do, before anybody confirms it: `python -m training.planning`, options in, plan out, as JSON.

It takes a second or two, because somebody waits for it: `training.outline` counts without loading a model. A process of
its own, because it opens documents: what drives the jobs stays small, and survives whatever a file does to its reader.
"""

import glob
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from quantahr.errors import QuantaHRError
from quantahr.gguf import file_sha256
from quantahr.infra import load_infra
from quantahr.retrain import Options, Plan, Taught
from training.config import AlpacaDataset, QloraConfig, dataset_files, load_config
from training.estimate import INSTANCES, START_MINUTES, count_parameters, read_instances
from training.launch.contract import LaunchError, RefusedError, UnreachableError
from training.outline import Outline, outline
from training.pace import Pace
from training.pace import guessed as guessed_seconds
from training.pace import rented as rented_seconds

_PLAN_SECONDS: Final = 120
LEAST_MINUTES: Final = 5


class Request(BaseModel):
    """What is asked of the planning process.

    `live`: document → hash, as the live model was trained on; `paces`: what earlier trainings took, newest first.
    `taught`: HR's standard answers, whose file lies in `approved`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: Path
    root: Path
    options: Options
    live: Mapping[str, str]
    paces: tuple[Pace, ...] = ()
    taught: Taught | None = None
    approved: Path = Path()


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
    options = request.options
    if options.platform == "aws":
        load_infra()  # said now, before anybody confirms
    config = for_options(load_config(request.config, root=request.root), options)
    config = with_taught(config, request.taught, request.approved)
    price = hourly_price(config)
    cap = cap_minutes(options, price)
    found = outline(config, root=request.root)
    hashes = document_hashes(config, request.root)
    where = "this machine"
    if options.platform == "aws":
        where = f"AWS, {'spot ' if options.spot else ''}{config.compute.instance_type}"
    minutes, certain = _minutes(config, found, where, request.paces)
    notes = list(found.warnings)
    if request.taught:
        notes.append(f"HR's standard answers are learned, too: {len(request.taught.answers)}.")
    if not certain:
        notes.append("The time is a guess until a training on this machine has been seen.")
    if minutes > cap:
        notes.append(
            f"The estimate is longer than the cap of {cap} minutes: training would be ended before it is done."
        )
    return Plan(
        base=config.model.base_llm_model,
        documents=len(hashes),
        changed=tuple(sorted(name for name, digest in hashes.items() if request.live.get(name) != digest)),
        removed=tuple(sorted(set(request.live) - set(hashes))),
        hashes=hashes,
        taught=request.taught,
        examples=found.examples,
        tokens=found.tokens,
        steps=found.steps,
        run=found.run_id,
        where=where,
        minutes=round(minutes, 1),
        price_per_hour=price,
        cap_minutes=cap,
        notes=tuple(notes),
    )


def _minutes(config: QloraConfig, found: Outline, where: str, paces: Sequence[Pace]) -> tuple[float, bool]:
    """How long it will take, with starting the machine, and whether that rests on more than a guess."""
    rented = config.compute.platform == "aws"
    start = START_MINUTES if rented else 0.0
    for pace in paces:
        if (pace.base, pace.where) == (config.model.base_llm_model, where):
            return start + found.tokens * pace.seconds / 60, True
    parameters = count_parameters(found.shape)
    if rented:
        instance = read_instances()[config.compute.instance_type or ""]
        return start + rented_seconds(parameters, found.tokens, instance) / 60, True
    return start + guessed_seconds(parameters, found.tokens) / 60, False


def for_options(config: QloraConfig, options: Options) -> QloraConfig:
    """The configuration with the administrator's choices."""
    chosen: dict[str, object] = {"platform": options.platform, "spot": options.spot}
    if options.instance_type:
        chosen["instance_type"] = options.instance_type
    return config.model_copy(update={"compute": config.compute.model_copy(update=chosen)})


def with_taught(config: QloraConfig, taught: Taught | None, folder: Path) -> QloraConfig:
    """The configuration with HR's standard answers, each of which is seen as often as a section of the documents."""
    if taught is None:
        return config
    weight = max((dataset.weight for dataset in config.datasets if dataset.type == "docx"), default=1.0)
    file = glob.escape(str(folder.resolve() / taught.file))
    added = AlpacaDataset(type="alpaca", input_files=[file], weight=weight * taught.share)
    return config.model_copy(update={"datasets": [*config.datasets, added]})


def hourly_price(config: QloraConfig) -> float:
    """US dollars an hour; a spot machine costs at most this. Raises LaunchError for an unknown type of machine."""
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
