"""What every part of a manifest is made of: a frozen typed model.

An unknown key is a mistake, and the docstring of a field is its description in the JSON Schema.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
