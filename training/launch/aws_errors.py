"""What AWS says when it says no, in words that an administrator can act on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from training.launch.contract import LaunchError, NoCapacityError, RefusedError, UnreachableError

CAPACITY: Final = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientCapacity",
        "SpotMaxPriceTooLow",
        "InsufficientFreeAddressesInSubnet",
        "Unsupported",
    }
)
QUOTA: Final = frozenset({"VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded"})
CREDENTIALS: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "AuthFailure",
        "SignatureDoesNotMatch",
        "InvalidAccessKeyId",
    }
)
RIGHTS: Final = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "403"})
PASSING: Final = frozenset(
    {"RequestLimitExceeded", "Throttling", "ThrottlingException", "SlowDown", "InternalError", "ServiceUnavailable"}
)
MISSING: Final = frozenset({"NoSuchKey", "404", "ResourceNotFoundException", "NotFound"})


def missing(error: Exception) -> bool:
    """Whether it says that the thing asked for does not exist."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", "")) in MISSING


@contextmanager
def said(what: str) -> Iterator[None]:
    """Turns what boto3 raises into a LaunchError; `what` is what did not happen."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        yield
    except ClientError as error:
        details = error.response.get("Error", {})
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        raise explained(str(details.get("Code", "")), status, what) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise explained("AuthFailure", 401, what) from None
    except (BotoCoreError, Boto3Error, OSError) as error:
        raise UnreachableError(
            "unreachable", f"AWS cannot be reached ({type(error).__name__}): {what}.", "I keep trying."
        ) from None


def explained(code: str, status: int, what: str) -> LaunchError:
    """The error for one of AWS's codes."""
    if code in CAPACITY:
        return NoCapacityError("no_capacity", "This zone has no machine of this type to give.", "Trying the next zone.")
    if code in QUOTA:
        return RefusedError(
            "quota",
            "The AWS account's quota does not allow another machine of this type.",
            "Ask AWS for more under Service Quotas, “Running On-Demand G and VT instances” (or “All G and VT Spot "
            "Instance Requests”), or choose a smaller instance_type.",
        )
    if code in CREDENTIALS:
        return RefusedError(
            "credentials",
            f"AWS does not accept our credentials, they are missing or have expired: {what}.",
            "Renew them where `quantahr jobs` runs (AWS_PROFILE or the role of the machine), then try again.",
        )
    if code in RIGHTS:
        return RefusedError(
            "rights",
            f"Our AWS role lacks a right: {what}.",
            "Compare its policy with the one in docs/retrain.md, or run `quantahr infra up` again.",
        )
    if code in PASSING or status >= 500:
        return UnreachableError("unreachable", f"AWS is overloaded ({code}): {what}.", "I keep trying.")
    return RefusedError(
        "aws",
        f"AWS refused ({code or 'no reason given'}): {what}.",
        "Run `quantahr infra status`; if something is missing, `quantahr infra up`.",
    )
