"""What stands in the AWS account, as the retrain launcher needs to know it.

`quantahr infra up` writes `config/infra.json` from Terraform's outputs, whose names are the fields below; nobody edits
it. It holds identifiers only, no secret. Without the file there is no AWS: training then runs on this machine.
"""

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quantahr.errors import QuantaHRError

INFRA_FILE: Final = Path("config/infra.json")


class InfraError(QuantaHRError):
    """The AWS infrastructure is not set up, or the note of it is damaged."""


class Infra(BaseModel):
    """The standing infrastructure. One bucket belongs to one installation, and tells its machines from others'."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    bucket: str = Field(min_length=3)
    kms_key_arn: str = Field(min_length=1)
    """Encrypts the bucket. The disk of a job's machine is encrypted with the account's own key for disks."""
    subnet_ids: tuple[str, ...] = Field(min_length=1)
    """One per availability zone; tried in this order when a zone has no machine to give."""
    security_group_id: str = Field(pattern=r"^sg-")
    """No way in; out on port 443 only."""
    instance_profile: str = Field(min_length=1)
    """The name of the trainer's instance profile."""
    scheduler_role_arn: str = Field(min_length=1)
    """The role with which EventBridge Scheduler may terminate training machines."""
    image_queries: tuple[str, ...] = Field(min_length=1)
    """Name patterns of machine images, best first; the newest image of the first pattern that matches any is used."""
    image_owners: tuple[str, ...] = ("amazon",)
    volume_gib: int = Field(default=100, ge=30, le=1000)


def load_infra(path: Path = INFRA_FILE) -> Infra:
    """The infrastructure that `quantahr infra up` noted. Raises InfraError."""
    try:
        return Infra.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InfraError(
            f"AWS is not set up: there is no {path}. Run `quantahr infra up` once, or train on this machine with "
            "`/hr-retrain local`."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InfraError(f"{path} cannot be read ({type(error).__name__}). Check its rights.") from None
    except ValidationError as error:
        names = ", ".join(sorted({".".join(map(str, problem["loc"])) or "the file" for problem in error.errors()}))
        raise InfraError(
            f"{path} is damaged ({names}). Run `quantahr infra up` again; it writes the file anew."
        ) from None
