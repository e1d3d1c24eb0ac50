"""What another system may hand over."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """A JSON object or an XML document, as the text that came."""

    model_config = ConfigDict(frozen=True)

    content_type: Literal["application/json", "application/xml"]
    body: str
