"""What every answer is, and what one is that is not a success."""

from typing import Annotated, Any

from pydantic import Field, with_config
from typing_extensions import TypedDict


@with_config(extra="forbid")
class Reply(TypedDict):
    """Base of all answers: nothing undeclared goes out."""


class ErrorDetail(Reply):
    code: Annotated[str, Field(description="Stable, upper snake case.", examples=["JOB_NOT_FOUND"])]
    message: str
    details: dict[str, Any]


class Error(Reply):
    """The body of every answer that is not a success."""

    detail: Annotated[str, Field(description="The message again.")]
    error_code: Annotated[str, Field(description="The code again.")]
    error: ErrorDetail
    request_id: str
