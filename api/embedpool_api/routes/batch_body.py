"""The body that asks for a batch."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from embedpool_api.accounts.foreign_fields import refuse_foreign
from embedpool_api.bulk.intake import MIN_LIVES_S
from embedpool_api.routes.bodies import AdminBody
from embedpool_shared.batches import COMPLETION_WINDOW, ENDPOINT, FILES_LIVE_S
from embedpool_shared.errors import BadRequest

MAX_PAIRS: Final = 16
MAX_KEY_LETTERS: Final = 64
MAX_VALUE_LETTERS: Final = 512

MetadataKey = Annotated[str, Field(max_length=MAX_KEY_LETTERS)]
MetadataValue = Annotated[str, Field(max_length=MAX_VALUE_LETTERS)]


class ExpiresAfter(BaseModel):
    """How long results are kept: `seconds` after they are written."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"]
    seconds: int = Field(ge=MIN_LIVES_S, le=FILES_LIVE_S)


class BatchBody(AdminBody):
    """POST /v1/batches."""

    input_file_id: str = Field(min_length=1, max_length=64, description="An uploaded file.")
    endpoint: str = Field(description="Where its lines go.", examples=[ENDPOINT])
    completion_window: str = Field(
        description="How long it may take.", examples=[COMPLETION_WINDOW]
    )
    metadata: Annotated[dict[MetadataKey, MetadataValue] | None, Field(max_length=MAX_PAIRS)] = (
        Field(None, description="Whatever you want to know of it later.")
    )
    output_expires_after: ExpiresAfter | None = Field(
        None, description=f"Results are kept for {FILES_LIVE_S} seconds; nothing else is possible."
    )

    def checked(self) -> None:
        """Raise `BadRequest` for what embedpool cannot do or does not know."""
        refuse_foreign(self.model_extra or {}, type(self).model_fields)
        if self.endpoint != ENDPOINT:
            raise BadRequest(f"`endpoint` should be '{ENDPOINT}'", param="endpoint")
        if self.completion_window != COMPLETION_WINDOW:
            raise BadRequest(
                f"`completion_window` should be '{COMPLETION_WINDOW}'", param="completion_window"
            )
        after = self.output_expires_after
        if after is not None and after.seconds != FILES_LIVE_S:
            raise BadRequest(
                f"`output_expires_after`: results are kept for {FILES_LIVE_S} seconds here; "
                "delete them earlier with DELETE /v1/files/{id}",
                param="output_expires_after",
            )
